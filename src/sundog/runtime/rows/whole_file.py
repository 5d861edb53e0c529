"""Files that appear whole or not at all.

Owns the part file beside the target, its lock and the complaint of a full disk. Never knows what is written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from sundog.errors import RunError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file that becomes `path` when the block ends well, and vanishes when it does not.

    Where `path` is a symbolic link, what it points to is replaced and the link stays. A part file that a killed process
    left is overwritten; one that is a link is refused, as somebody else may have put it there. RunError when it cannot
    be written; `path` is then as it was before.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f".{target.name}.part")
    with told_failures(str(path)), _open_part(part, mode) as stream:
        _lock(stream, part, path)
        try:
            stream.truncate(0)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    sync_folder(target.parent)


def _open_part(part: Path, mode: int) -> BinaryIO:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        stream = os.fdopen(os.open(part, flags, mode), "ab")
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        raise _no_part_file(part) from error
    found = os.fstat(stream.fileno())
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        stream.close()
        raise _no_part_file(part)
    return stream


def _no_part_file(part: Path) -> RunError:
    return RunError(f"{part} is a link, or no file: it is not written through", hint="look who made it, and remove it")


def _lock(stream: BinaryIO, part: Path, path: Path) -> None:
    busy = RunError(f"another process is writing {path}", hint="wait for it, or name another output")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise busy from error
    try:
        is_part = os.path.samestat(os.fstat(stream.fileno()), part.lstat())
    except FileNotFoundError:
        is_part = False
    if not is_part:
        # Between opening and locking it the other one has finished: what is open here is its whole file by now.
        raise busy


@contextmanager
def told_failures(name: str) -> Iterator[None]:
    """Raise the RunError of an OSError that happens while `name` is written."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise RunError(
                f"cannot write {name}: {os.strerror(error.errno or 0)}",
                hint="make room and repeat the command: nothing finished is lost, what was there before is unchanged",
            ) from error
        raise RunError(
            f"cannot write {name}: {error.strerror or error}", hint="check the folder, then repeat the command"
        ) from error


def sync_folder(folder: Path) -> None:
    """Let new names in a folder survive a power cut, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
