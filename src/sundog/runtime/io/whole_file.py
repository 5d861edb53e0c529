"""Files that appear whole or not at all.

Owns the part file beside the target, its lock and the complaint of a full disk. Never knows what is written.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sundog.errors import RunError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that becomes `path` when the block ends well, and vanishes when it does not.

    A part file that a killed process left is overwritten. RunError when it cannot be written; `path` is then
    as it was before.
    """
    part = path.with_name(f".{path.name}.part")
    with _write_errors(path), part.open("ab") as stream:
        _lock(stream, path)
        try:
            stream.truncate(0)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    _sync_folder(path.parent)


def _lock(stream: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunError(f"another process is writing {path}", hint="wait for it, or name another output") from error


@contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise RunError(
                f"cannot write {path}: {os.strerror(error.errno or 0)}",
                hint="make room and repeat the command: nothing finished is lost, what was there before is unchanged",
            ) from error
        raise RunError(
            f"cannot write {path}: {error.strerror or error}", hint="check the folder, then repeat the command"
        ) from error


def _sync_folder(folder: Path) -> None:
    """The new name survives a power cut, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
