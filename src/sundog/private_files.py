"""Files of the state folder: only their owner may read them, and none is opened through a link.

Owns their modes. They hold rows, answers and requests, which may be as confidential as the user's inputs.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600


def make_private_folder(path: Path) -> None:
    """Make `path` and what is missing above it. A folder that is there keeps its mode: it may be for more than this."""
    for folder in reversed([path, *path.parents]):
        if not folder.is_dir():
            folder.mkdir(mode=FOLDER_MODE, exist_ok=True)


def open_private(path: Path, flags: int) -> int:
    """Return a descriptor, as `os.open` gives; the file is made where it is missing. OSError for a symbolic link."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    os.fchmod(descriptor, FILE_MODE)
    return descriptor


def make_private_file(path: Path) -> None:
    """Make `path` where it is missing, without opening a file that is there: to close a file ends the locks that this
    process has on it, SQLite's too. OSError for a symbolic link."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    except FileExistsError:
        if path.is_symlink():
            raise OSError(f"{path.name} is a symbolic link") from None
        path.chmod(FILE_MODE)
