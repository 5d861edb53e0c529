"""A state at a URL: its logs there, and a cache on this machine's disk that is made of them.

Owns the caches of this process and who may write to which log. A cache belongs to one process; it can be thrown away
at any time while none uses it.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from dataclasses import replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from sqlite3 import Connection
from uuid import uuid4

from sundog.errors import StoreError, UserError
from sundog.private_files import make_private_folder, open_private
from sundog.store import accepted, batches, files, runs, spending, store
from sundog.store.schema import STORE_FILE, connect_store
from sundog.store.segments import run_files
from sundog.store.segments.catch_up import catch_up, restore_results
from sundog.store.segments.log import SegmentLog, log_names
from sundog.store.segments.opened import LOCK_FILE, OPENED
from sundog.store.segments.positions import LogPosition, create_tables, logs_with_unsent, put_position, read_position
from sundog.store.segments.segment import SegmentHeader
from sundog.store.segments.sending import HeldLog, Overtaken, send_unsent
from sundog.store.segments.storage import ObjectStorage

WATCH_S = 12.0
"""For so long a log is watched for a sign of life of its writer: four times the time between two of them."""
_LOOK_EVERY_S = 1.0
_NUM_TRIES = 5
"""Processes that take one log at the same time each find its end moved by another so often, at most."""
_NAMED_BY_LOGS = (accepted, batches, files, runs, spending, store, run_files)
"""The modules whose statements a log can hold: they must be known before it is read."""
_FILES = "files"
_STATES: dict[str, CachedState] = {}
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
        with self._lock:
            try:
                self._catch_up()
            except Overtaken:
                # Another process went on from the end of the log: what this cache has beyond it never happened.
                if self._held:
                    raise
                self._path.unlink()
                for part in ("-wal", "-shm"):
                    self._path.with_name(self._path.name + part).unlink(missing_ok=True)
                self._catch_up()

    def take(self, name: str) -> HeldLog:
        """Become the one process that writes to a log. UserError where another one does."""
        with self._lock:
            if name in self._held:
                raise UserError("this process is writing to this log already")
            if not self._is_checked:
                self._storage.check_creation()
                self._is_checked = True
            log = SegmentLog(self._storage, name)
            connection = connect_store(self._path)
            try:
                position = self._taken(log, connection)
            finally:
                connection.close()
            self._held.add(name)
        return HeldLog(log, self._path, position)

    def release(self, name: str) -> None:
        """Forget that this process writes to a log."""
        with self._lock:
            self._held.discard(name)

    def put_file(self, digest: str, path: Path) -> None:
        """Keep the content of a file where the logs lie, under its digest."""
        self._storage.keep(f"{_FILES}/{digest}", path)

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

    def is_at_work(self, name: str) -> bool:
        """Return whether another process writes to a log, as StateCache says."""
        log = SegmentLog(self._storage, name)
        connection = connect_store(self._path)
        try:
            position = read_position(connection, name)
        finally:
            connection.close()
        return name not in self._held and not position.has_closed and self._is_watched_alive(log, position)

    def _is_watched_alive(self, log: SegmentLog, position: LogPosition) -> bool:
        """Watch a log whose writer has not said that it stopped. Its clock is not asked: it has to change something."""
        if position.epoch.partition("-")[0] in self._own:
            return False
        first, end_s = log.sign_of_life(), time.monotonic() + WATCH_S
        while time.monotonic() < end_s:
            time.sleep(_LOOK_EVERY_S)
            if log.sign_of_life() != first or log.segment(position.next_number) is not None:
                return True
        return False

    def _catch_up(self) -> None:
        connection = connect_store(self._path)
        try:
            create_tables(connection)
            for name in logs_with_unsent(connection):
                if name not in self._held:
                    self._send_left(SegmentLog(self._storage, name), connection)
            for name in log_names(self._storage):
                if name not in self._held:
                    catch_up(SegmentLog(self._storage, name), connection)
        finally:
            connection.close()

    def _send_left(self, log: SegmentLog, connection: Connection) -> None:
        position = read_position(connection, log.name)
        while (sent := send_unsent(log, connection, position)) != position:
            position = sent

    def _taken(self, log: SegmentLog, connection: Connection) -> LogPosition:
        epoch = f"{self._id}-{uuid4().hex[:12]}"
        header = SegmentHeader(kind="taken", epoch=epoch, writer=f"process {os.getpid()} on {socket.gethostname()}")
        for _ in range(_NUM_TRIES):
            position = catch_up(log, connection)
            if not position.has_closed and self._is_watched_alive(log, position):
                raise UserError(
                    f"another process is working on this run (it writes to log {log.name})",
                    hint="wait for it, or stop it; then repeat the command to continue the run",
                )
            if log.create(position.next_number, header):
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
    caches of this user lie. StoreError where the storage cannot be read."""
    url = url.rstrip("/")
    with _OPENING:
        state = _STATES.get(url)
        if state is None:
            state = _STATES[url] = open_cache(ObjectStorage(url), caches)
    state.catch_up()
    return state.folder


def open_cache(storage: ObjectStorage, caches: Path) -> CachedState:
    """Return a cache of a storage in a folder that no other process has."""
    folder, lock = _free_folder(caches / sha256(storage.url.encode()).hexdigest()[:16])
    state = OPENED[folder] = CachedState(storage, folder, lock)
    return state


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
