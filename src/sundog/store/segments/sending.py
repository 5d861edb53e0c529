"""A held log: the thread that sends what the cache commits, in its order, and says that its process is alive.

Owns when segments are made and who hears of them. The one that holds a log finds out with its next segment that
another process has taken it over.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from sqlite3 import Connection

from sundog.errors import StoreError
from sundog.store.schema import connect_store
from sundog.store.segments.catch_up import transaction
from sundog.store.segments.frames import pack_frame
from sundog.store.segments.log import SegmentLog
from sundog.store.segments.patience import patiently
from sundog.store.segments.positions import LogPosition, drop_sent, first_unsent, put_position, put_unsent
from sundog.store.segments.segment import SegmentHeader
from sundog.store.statements import Change

SEND_EVERY_S = 1.0
SEND_BYTES = 2**20
"""This much is sent before its second is over."""
MAX_SEGMENT_BYTES = 8 * 2**20
MAX_UNSENT_BYTES = 64 * 2**20
"""The run commits nothing more while this much waits to be sent."""
ALIVE_EVERY_S = 3.0
Tell = Callable[[StoreError | None], None]


class Overtaken(StoreError):
    """Another process writes to this log now. Raised where the next segment is there already; caught by
    `segments.cache`, which makes its cache anew, and as any StoreError is."""

    def __init__(self, log: str) -> None:
        super().__init__(
            "another process has taken over this run, which stops here",
            where=f"log {log}",
            hint="let the other one finish; the same command then shows what it has done",
        )


def send_unsent(log: SegmentLog, connection: Connection, position: LogPosition) -> LogPosition:
    """Make one segment of the first commits that the log lacks; gives where the log ends then, the same point where it
    lacks none. Overtaken where another process has written there."""
    unsent = first_unsent(connection, log.name, MAX_SEGMENT_BYTES)
    if unsent is None:
        return position
    number, last_commit = position.next_number, unsent.last_commit
    header = SegmentHeader(kind="changes", epoch=position.epoch, last_commit=last_commit)
    if not log.create(number, header, unsent.frames):
        # A process of this cache that was killed may have sent it, with more or fewer commits.
        there = log.segment(number)
        if there is None or there.header.epoch != position.epoch:
            raise Overtaken(log.name)
        last_commit = there.header.last_commit
    position = replace(position, next_number=number + 1, has_closed=False)
    with transaction(connection):
        drop_sent(connection, log.name, last_commit)
        put_position(connection, log.name, position)
    return position


class HeldLog:
    """A log that this process writes to; a ChangeLog of the store at `path`. `position`: the end of the log, which is
    this process's own segment `taken`."""

    def __init__(self, log: SegmentLog, path: Path, position: LogPosition) -> None:
        self._log = log
        self._path = path
        self._position = position
        self._changed = threading.Condition()
        self._is_urgent = False
        self._is_closing = False
        self._num_unsent_bytes = 0
        self._waiting: list[tuple[int, Tell]] = []
        self._error: StoreError | None = None
        self._num_alive = 0
        self._alive_at_s = 0.0
        self._thread = threading.Thread(target=self._work, name="sundog-log", daemon=True)
        self._thread.start()

    def keep(self, connection: Connection, changes: Sequence[Change]) -> int:
        """Take changes inside the transaction that makes them; gives their number. StoreError once the log cannot be
        written."""
        if self._error is not None:
            raise self._error
        frame = pack_frame(changes)
        with self._changed:
            self._num_unsent_bytes += len(frame)
        return put_unsent(connection, self._log.name, frame)

    def when_sent(self, number: int, tell: Tell) -> None:
        """Call `tell` once the log holds the commits up to a number, or cannot; they are sent at once."""
        with self._changed:
            if self._error is None:
                self._waiting.append((number, tell))
                self._is_urgent = True
                self._changed.notify_all()
                return
        tell(self._error)

    def wait_for_room(self) -> None:
        """Return once less than MAX_UNSENT_BYTES wait to be sent, or nothing can be."""
        with self._changed:
            if self._num_unsent_bytes >= SEND_BYTES:
                self._changed.notify_all()
            self._changed.wait_for(lambda: self._num_unsent_bytes < MAX_UNSENT_BYTES or self._error is not None)

    def close(self) -> None:
        """Send what is left and say that nothing is missing. StoreError where that cannot be."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            connection = connect_store(self._path)
        except StoreError as error:
            self._fail(error)
            return
        try:
            while not self._send_what_is_due(connection):
                pass
        except StoreError as error:
            self._fail(error)
        except Exception as error:  # whoever waits for a commit would wait for ever
            self._fail(StoreError(f"the log cannot be written: {error}", where=f"log {self._log.name}"))
        finally:
            connection.close()

    def _send_what_is_due(self, connection: Connection) -> bool:
        """Wait for the next segment and make it; gives whether this was the last one."""
        with self._changed:
            self._changed.wait_for(self._has_to_send, timeout=SEND_EVERY_S)
            is_closing, self._is_urgent = self._is_closing, False
        while (sent := patiently(lambda: send_unsent(self._log, connection, self._position))) != self._position:
            self._position = sent
            self._tell_sent(connection)
        if self._waiting:  # for what was sent before they asked
            self._tell_sent(connection)
        if not is_closing:
            self._tell_alive()
            return False
        header = SegmentHeader(kind="closed", epoch=self._position.epoch)
        if not patiently(lambda: self._log.create(self._position.next_number, header)):
            raise Overtaken(self._log.name)
        with transaction(connection):
            closed = replace(self._position, next_number=self._position.next_number + 1, has_closed=True)
            put_position(connection, self._log.name, closed)
        return True

    def _has_to_send(self) -> bool:
        return self._is_urgent or self._is_closing or self._num_unsent_bytes >= SEND_BYTES

    def _tell_sent(self, connection: Connection) -> None:
        left = connection.execute(
            "select min(number), total(length(frame)) from outbox where log = ?", (self._log.name,)
        )
        first_left, num_bytes = left.fetchone()
        with self._changed:
            self._num_unsent_bytes = int(num_bytes)
            waiting = self._waiting
            self._waiting = [one for one in waiting if first_left is not None and one[0] >= first_left]
            told = [tell for number, tell in waiting if first_left is None or number < first_left]
            self._changed.notify_all()
        for tell in told:
            tell(None)

    def _tell_alive(self) -> None:
        """A sign that is late only makes others think that this process is gone, and then they take its place."""
        if time.monotonic() - self._alive_at_s < ALIVE_EVERY_S:
            return
        self._num_alive += 1
        self._alive_at_s = time.monotonic()
        body = json.dumps({"epoch": self._position.epoch, "count": self._num_alive}).encode()
        patiently(lambda: self._log.tell_alive(body))

    def _fail(self, error: StoreError) -> None:
        with self._changed:
            self._error = error
            waiting, self._waiting = self._waiting, []
            self._changed.notify_all()
        for _, tell in waiting:
            tell(error)
