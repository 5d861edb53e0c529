"""A state at a URL: its logs there, and a cache on this machine's disk that is made of them.

Owns the caches of this process and who may write to which log. A cache belongs to one process; it can be thrown away
at any time while none uses it.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from sqlite3 import Connection
from uuid import uuid4

from sundog.errors import StoreError, UserError
from sundog.private_files import make_private_folder, open_private
from sundog.store import accepted, batches, files, runs, spending, store
from sundog.store.schema import STORE_FILE, connect_store, store_error
from sundog.store.segments import run_files
from sundog.store.segments.catch_up import catch_up, restore_results, transaction
from sundog.store.segments.log import OtherLog, SegmentLog, log_names
from sundog.store.segments.opened import LOCK_FILE, OPENED
from sundog.store.segments.patience import patiently
from sundog.store.segments.positions import (
    LogPosition,
    create_tables,
    forget_all,
    logs_with_unsent,
    put_position,
    put_state_id,
    read_family,
    read_position,
    read_state_id,
)
from sundog.store.segments.segment import SegmentHeader
from sundog.store.segments.sending import HeldLog, Overtaken, send_unsent
from sundog.store.segments.storage import ObjectStorage
from sundog.store.segments.watch import watched_alive

_NUM_LISTED_AT_ONCE = 16
_NUM_TRIES = 5
"""Processes that take one log at the same time each find its end moved by another so often, at most."""
_NAMED_BY_LOGS = (accepted, batches, files, runs, spending, store, run_files)
"""The modules whose statements a log can hold: they must be known before it is read."""
_FILES = "files"
_SCRATCH = "scratch"
_ID = "id"
"""The object by which a state is known from one that lay there before it."""
_STATES: dict[tuple[int, str], CachedState] = {}
"""By process and URL."""
_OPENING = threading.Lock()


class CachedState:
    """The cache of one URL that this process has."""

    def __init__(self, storage: ObjectStorage, folder: Path, lock: int) -> None:
        """`lock`: an open, locked descriptor of the cache's file for that."""
        self.url = storage.url
        self.folder = folder
        self._storage = storage
        self._path = folder / STORE_FILE
        self._id = uuid4().hex[:12]
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._is_checked = False
        #: Processes of this cache, all gone but this one: it is theirs alone, one after the other.
        self._own = {*os.pread(lock, 2**20, 0).decode().split(), self._id}
        os.write(lock, f"{self._id}\n".encode())

    def catch_up(self) -> None:
        """Take in what others have written, and send what a process of this cache that was killed could not."""
        with self._lock, self._connected() as connection:
            create_tables(connection)
            try:
                self._catch_up(connection)
            except (Overtaken, OtherLog):
                # Another process went on from the end of a log, or all was deleted: what this cache has beyond it never
                # happened.
                if self._held:
                    raise
                with transaction(connection):
                    forget_all(connection)
                self._catch_up(connection)

    def take(self, name: str) -> HeldLog:
        """Become the one process that writes to a log, as StateCache says."""
        with self._lock:
            if name in self._held:
                raise UserError("this process is writing to this log already")
            if not self._is_checked:
                self._storage.check_creation()
                self._storage.create(_ID, uuid4().hex.encode())
                self._is_checked = True
            log = SegmentLog(self._storage, name)
            with self._connected() as connection:
                self._check_id(connection)
                # What this process has left from a time before must not come behind what others have written.
                self._send_left(log, connection)
                position = self._taken(log, connection)
                if self._seal_beside(name, connection):
                    # What they have done comes before all that is changed here.
                    position = self._taken(log, connection)
            self._held.add(name)
        return HeldLog(log, self._path, position)

    def release(self, name: str) -> None:
        """Forget that this process writes to a log."""
        with self._lock:
            self._held.discard(name)

    def put_file(self, digest: str, path: Path) -> None:
        """Keep the content of a file where the logs lie, under its digest."""
        patiently(lambda: self._storage.keep(f"{_FILES}/{digest}", path))

    def fetch_file(self, digest: str, path: Path) -> None:
        """Make a file of a content that was kept, whole. StoreError where it is not there."""
        make_private_folder(path.parent)
        part = path.with_name(f".{path.name}.part")
        with os.fdopen(open_private(part, os.O_WRONLY | os.O_TRUNC), "wb") as file:
            is_there = self._storage.fetch(f"{_FILES}/{digest}", file)
        if not is_there or run_files.content_digest(part) != digest:
            raise StoreError(
                f"the file '{path.name}' of a run is not in the state any more",
                where=f"{self.url}/{_FILES}/{digest}",
                hint="begin a new run with --fresh",
            )
        part.replace(path)

    def at_work(self, names: Iterable[str]) -> set[str]:
        """Return the logs to which another process writes, as StateCache says."""
        with self._connected() as connection:
            positions = {name: read_position(connection, name) for name in names if name not in self._held}
        asked = [one for one in positions.items() if not one[1].has_closed and not self._is_own(one[1])]
        return watched_alive([(SegmentLog(self._storage, name), position.next_number) for name, position in asked])

    def logs_beside(self, name: str) -> list[str]:
        """Return the logs of the cells and owners of the run that a log is of."""
        names = patiently(lambda: log_names(self._storage))
        return [other for other in names if other.startswith(f"{name}.")]

    def read(self, names: Iterable[str]) -> None:
        """Take in what some logs hold."""
        with self._lock, self._connected() as connection:
            patiently(lambda: self._read(names, connection))

    def seal(self, name: str) -> None:
        """Let nobody write to a log any more, and take in what it holds."""
        with self._lock, self._connected() as connection:
            patiently(lambda: self._seal(name, connection))

    def epoch(self, name: str) -> str:
        """Return the epoch of whoever writes to a log, or has written there last, as was read."""
        with self._connected() as connection:
            return read_position(connection, name).epoch

    def put_scratch(self, name: str, body: bytes) -> None:
        """Keep an object that others read while a run lasts."""
        patiently(lambda: self._storage.replace(f"{_SCRATCH}/{name}", body))

    def scratch(self, name: str) -> bytes:
        """Return such an object. StoreError where it is not there."""
        body = patiently(lambda: self._storage.read(f"{_SCRATCH}/{name}"))
        if body is None:
            raise StoreError("rows of a run are not in the state any more", where=f"{self.url}/{_SCRATCH}/{name}")
        return body

    def drop_scratch(self, folder: str) -> None:
        """Drop the objects of a folder."""
        for name in patiently(lambda: list(self._storage.names(f"{_SCRATCH}/{folder}"))):
            patiently(partial(self._storage.drop, name))

    def _seal_beside(self, name: str, connection: Connection) -> bool:
        """Let the cells and owners of an earlier driver write nothing more, and drop what it has kept for them; gives
        whether it had any. It comes after this process has taken the driver's log: a cell that begins later sees
        that."""
        beside = self.logs_beside(name)
        for other in beside:
            self._seal(other, connection)
        if beside:
            self.drop_scratch(name)
        return bool(beside)

    def _seal(self, name: str, connection: Connection) -> None:
        log = SegmentLog(self._storage, name)
        epoch = f"{self._id}-{uuid4().hex[:12]}"
        position = catch_up(log, connection)
        while not (position.next_number and position.has_closed):
            if log.create(position.next_number, _taken_header(epoch, {})):
                log.create(position.next_number + 1, SegmentHeader(kind="closed", epoch=epoch))
            position = catch_up(log, connection)

    def _is_own(self, position: LogPosition) -> bool:
        """Return whether the last one that wrote was a process of this cache."""
        return position.epoch.partition("-")[0] in self._own

    def _check_id(self, connection: Connection) -> None:
        """OtherLog where the state at the URL is not the one that the cache was made of: somebody has deleted that."""
        found = self._storage.read(_ID) or b""
        if read_state_id(connection) not in (b"", found):
            raise OtherLog(self.url, "it is another one than before")
        put_state_id(connection, found)

    def _catch_up(self, connection: Connection) -> None:
        self._check_id(connection)
        for name in logs_with_unsent(connection):
            if name not in self._held:
                self._send_left(SegmentLog(self._storage, name), connection)
        self._read([name for name in log_names(self._storage) if name not in self._held], connection)

    def _read(self, names: Iterable[str], connection: Connection) -> None:
        """Take in what is new in some logs, of which many are listed at once."""
        logs = [(SegmentLog(self._storage, name), read_position(connection, name)) for name in names]
        with ThreadPoolExecutor(_NUM_LISTED_AT_ONCE) as pool:
            new = [*pool.map(lambda one: one[0].numbers(one[1].next_number), logs)]
        for (log, _), numbers in zip(logs, new, strict=True):
            if numbers:
                catch_up(log, connection, numbers)

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        connection = connect_store(self._path)
        try:
            yield connection
        except sqlite3.Error as error:
            raise store_error(self._path, error) from error
        finally:
            connection.close()

    def _send_left(self, log: SegmentLog, connection: Connection) -> None:
        position = read_position(connection, log.name)
        while (sent := send_unsent(log, connection, position)) != position:
            position = sent

    def _taken(self, log: SegmentLog, connection: Connection) -> LogPosition:
        epoch = f"{self._id}-{uuid4().hex[:12]}"
        for _ in range(_NUM_TRIES):
            position = catch_up(log, connection)
            is_asked = not position.has_closed and not self._is_own(position)
            if is_asked and watched_alive([(log, position.next_number)]):
                raise UserError(
                    f"another process is working on this run (it writes to log {log.name})",
                    hint="wait for it, or stop it; then repeat the command to continue the run",
                )
            after = read_family(connection, log.name)
            if log.create(position.next_number, _taken_header(epoch, after)):
                if position.has_lost:
                    position = restore_results(log, connection)
                position = replace(position, next_number=position.next_number + 1, epoch=epoch, has_closed=False)
                put_position(connection, log.name, position)
                return position
        raise UserError(
            "other processes begin to work on this run at the same time", hint="stop them, then repeat the command"
        )


def open_state(url: str, caches: Path) -> Path:
    """Return the folder of a cache of the state at a URL, which is made of it now. `caches`: the folder in which the
    caches of this user lie. StoreError where the storage cannot be read, or no cache be made."""
    url = url.rstrip("/")
    with _OPENING:
        # A process that was forked has a cache of its own.
        state = _STATES.get((os.getpid(), url))
        if state is None:
            state = _STATES[os.getpid(), url] = open_cache(ObjectStorage(url), caches)
    state.catch_up()
    return state.folder


def open_cache(storage: ObjectStorage, caches: Path) -> CachedState:
    """Return a cache of a storage in a folder that no other process has."""
    try:
        folder, lock = _free_folder(caches / sha256(storage.url.encode()).hexdigest()[:16])
    except OSError as error:
        raise StoreError(
            f"no cache of the state can be made: {error.strerror}",
            where=str(caches),
            hint="set SUNDOG_CACHE to a folder that can be written",
        ) from error
    state = OPENED[folder] = CachedState(storage, folder, lock)
    return state


def _taken_header(epoch: str, after: dict[str, int]) -> SegmentHeader:
    writer = f"process {os.getpid()} on {socket.gethostname()}"
    return SegmentHeader(kind="taken", epoch=epoch, writer=writer, after=after)


def _free_folder(path: Path) -> tuple[Path, int]:
    """Return a folder for a cache that no other process has, and its lock, which ends with this process."""
    for number in count():
        folder = path.with_name(f"{path.name}-{number}")
        make_private_folder(folder)
        lock = open_private(folder / LOCK_FILE, os.O_RDWR | os.O_APPEND)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return folder, lock
    raise AssertionError("count has no end")
