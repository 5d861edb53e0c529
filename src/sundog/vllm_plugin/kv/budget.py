"""The bound on the bytes of the shared folder, kept by all processes together, and who has to go.

Owns the ledger (one number under a lock), the places where blocks are written before they have a name, and the
eviction of what was used longest ago. Never reads a block. Readers take no lock.

The number is never too small: bytes are added before they are written, and what vanishes otherwise (a killed writer, a
damaged file) stays counted until the next eviction counts anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LEDGER = struct.Struct("<Q")
BLOCKS_DIR = "blocks"
PARTS_DIR = "parts"
LOCK_TIMEOUT_S = 2.0
LOCK_POLL_S = 0.002
# A part that nobody has touched for this long was left behind by a killed writer.
PART_MAX_AGE_S = 60.0
# Evicting a little more than needed spares a scan at every write.
EVICTION_SLACK = 0.05


@dataclass(frozen=True, slots=True)
class EvictableFile:
    """A file that may be evicted."""

    #: The time at which it was used last.
    used_ns: int
    num_bytes: int
    path: str


class Budget:
    """The budget of the folder `root`; every process that writes there has one, with the same `max_bytes`."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._numbers = itertools.count()
        (root / BLOCKS_DIR).mkdir(parents=True, exist_ok=True)
        (root / PARTS_DIR).mkdir(exist_ok=True)
        self._ledger = root / "ledger"

    def reserve(self, num_bytes: int) -> Path | None:
        """Return an empty file of this size, to be filled and moved under `blocks`; it is counted from now on.

        None when it can never fit, or when the lock was not to be had in time.
        """
        if num_bytes > self._max_bytes:
            return None
        with self._locked() as fd:
            if fd is None:
                return None
            total = self._read(fd)
            if total is None or total + num_bytes > self._max_bytes:
                total = self._make_room(num_bytes)
                if total + num_bytes > self._max_bytes:
                    self._write(fd, total)
                    return None
            self._write(fd, total + num_bytes)
            part = self._root / PARTS_DIR / f"{os.getpid()}-{id(self)}-{next(self._numbers)}"
            with part.open("xb") as file:
                file.truncate(num_bytes)
        return part

    def _read(self, fd: int) -> int | None:
        """Return the bytes in the ledger; None where it is new or torn: the files are counted then."""
        content = os.pread(fd, LEDGER.size + 1, 0)
        return int(LEDGER.unpack(content)[0]) if len(content) == LEDGER.size else None

    def _write(self, fd: int, total: int) -> None:
        os.pwrite(fd, LEDGER.pack(total), 0)

    def _make_room(self, num_bytes: int) -> int:
        """Evict until `num_bytes` and some slack fit; the bytes that are left."""
        # Parts first: one that gets its name meanwhile is counted twice, never not at all.
        total = sum(part.num_bytes for part in self._parts())
        kept = sorted(scan(self._root / BLOCKS_DIR), key=lambda file: (file.used_ns, file.path))
        total += sum(file.num_bytes for file in kept)
        if total + num_bytes <= self._max_bytes:
            return total
        target = max(0, self._max_bytes - num_bytes - int(EVICTION_SLACK * self._max_bytes))
        for file in kept:
            if total <= target:
                break
            with contextlib.suppress(FileNotFoundError):
                Path(file.path).unlink()
            total -= file.num_bytes
        return total

    def _parts(self) -> Iterator[EvictableFile]:
        """Yield the parts that are being written; those left behind are removed."""
        oldest_ns = time.time_ns() - int(PART_MAX_AGE_S * 1e9)
        for part in scan(self._root / PARTS_DIR):
            if part.used_ns >= oldest_ns:
                yield part
            else:
                with contextlib.suppress(FileNotFoundError):
                    Path(part.path).unlink()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int | None]:
        """The ledger, locked; None when others held it for too long. A killed holder's lock is free at once."""
        fd = os.open(self._ledger, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield fd if _lock(fd) else None
        finally:
            os.close(fd)


def scan(folder: Path) -> Iterator[EvictableFile]:
    """Yield all files under `folder`, at any depth; those that vanish meanwhile are left out."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from scan(Path(entry.path))
                continue
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                yield EvictableFile(status.st_mtime_ns, status.st_size, entry.path)


def _lock(fd: int) -> bool:
    deadline_s = time.monotonic() + LOCK_TIMEOUT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline_s:
                return False
            time.sleep(LOCK_POLL_S)
        else:
            return True
