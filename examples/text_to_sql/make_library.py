"""Make library.db of library.sql anew, with 120 loans that follow from their numbers."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

NUM_LOANS = 120


def make_library(folder: Path) -> None:
    """Write library.db into `folder`, in place of one that is there; it is always the same."""
    (folder / "library.db").unlink(missing_ok=True)
    loans = [(1 + n * n % 7 % 6, 1 + n * 3 % 5, f"2026-{1 + n % 12:02}", 5 + n * 11 % 24) for n in range(NUM_LOANS)]
    with closing(sqlite3.connect(folder / "library.db")) as library, library:
        library.executescript((folder / "library.sql").read_text())
        library.executemany("insert into loan values (?, ?, ?, ?)", loans)


if __name__ == "__main__":
    make_library(Path(__file__).parent)
