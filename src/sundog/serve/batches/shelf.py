"""The bytes of files that clients have sent, in the state folder.

Owns their place on the disk: a file is whole there, or it is not there. Which files there are, the store knows.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sundog.private_files import make_private_folder, open_private
from sundog.serve.wire.errors import Refusal
from sundog.store.files import FileBook

MAX_FILE_BYTES = 2 * 2**30
_FLUSH_BYTES = 2**20
_PART = ".part"
STALE_S = 86_400.0
"""What nobody knows of, and has not changed for so long, is left from a process that was killed."""


class FileShelf:
    """This class keeps the bytes of files by their ids."""

    def __init__(self, state_dir: Path, max_bytes: int = MAX_FILE_BYTES) -> None:
        self._folder = state_dir / "files"
        self.max_bytes = max_bytes

    def path(self, file_id: str) -> Path:
        """Return where the bytes of a file are."""
        return self._folder / file_id

    @contextmanager
    def receiving(self, file_id: str) -> Iterator[IncomingFile]:
        """Yield what takes the bytes of a file; unless they are kept, they are gone at the end."""
        part = self._folder / f"{file_id}{_PART}"
        with _disk_refusals():
            make_private_folder(self._folder)
            descriptor = open_private(part, os.O_WRONLY | os.O_TRUNC)
        try:
            yield IncomingFile(descriptor, part, self.path(file_id), self.max_bytes)
        finally:
            os.close(descriptor)
            part.unlink(missing_ok=True)

    async def remove(self, file_id: str) -> None:
        """Let go of the bytes of a file; who reads them now may read on."""
        await asyncio.to_thread(self.path(file_id).unlink, missing_ok=True)

    def remove_stale(self, book: FileBook) -> None:
        """Let go of what a process has left that was killed while a file came."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            is_old = time.time() - path.stat().st_mtime > STALE_S
            if is_old and not book.is_kept(path.name):
                path.unlink(missing_ok=True)


class IncomingFile:
    """This class takes the bytes of one file. Refusal where they are too many, or the disk takes no more."""

    def __init__(self, descriptor: int, part: Path, path: Path, max_bytes: int) -> None:
        self._descriptor = descriptor
        self._part = part
        self._path = path
        self._max_bytes = max_bytes
        self._waiting: list[bytes] = []
        self._num_waiting_bytes = 0
        self.num_bytes = 0

    async def write(self, piece: bytes) -> None:
        """Take the next bytes."""
        self.num_bytes += len(piece)
        if self.num_bytes > self._max_bytes:
            what = f"the file is larger than the {self._max_bytes:,} bytes that this server takes"
            raise Refusal(413, what, param="file", code="file_too_large", is_final=True)
        self._waiting.append(piece)
        self._num_waiting_bytes += len(piece)
        if self._num_waiting_bytes >= _FLUSH_BYTES:
            with _disk_refusals():
                await asyncio.to_thread(self._flush)

    async def keep(self) -> None:
        """Return when the file is whole, and on the disk."""
        with _disk_refusals():
            await asyncio.to_thread(self._keep)

    def _flush(self) -> None:
        left = memoryview(b"".join(self._waiting))
        self._waiting, self._num_waiting_bytes = [], 0
        while left:
            left = left[os.write(self._descriptor, left) :]

    def _keep(self) -> None:
        self._flush()
        os.fsync(self._descriptor)
        self._part.rename(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def _disk_refusals() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = "the disk of the server is full" if is_full else f"the state folder cannot be written: {error.strerror}"
        raise Refusal(507, what, code="disk_full" if is_full else "disk_failed") from error
