"""Make desk.db of desk.sql anew, without any refund."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def make_desk(folder: Path) -> None:
    """Write desk.db into `folder`, in place of one that is there."""
    (folder / "desk.db").unlink(missing_ok=True)
    with closing(sqlite3.connect(folder / "desk.db")) as desk:
        desk.executescript((folder / "desk.sql").read_text())


if __name__ == "__main__":
    make_desk(Path(__file__).parent)
