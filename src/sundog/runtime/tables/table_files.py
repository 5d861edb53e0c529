"""The files in which a run keeps rows of its tables.

Owns where they lie in the folder of the run. Never knows what they hold.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

_ONLY_TABLE = "rows"
"""The folder of the table whose name is empty; there is no other table then."""


@dataclass(frozen=True, slots=True)
class TableFiles:
    """The folders in which the rows of a run's tables lie."""

    run_folder: Path
    #: The rows of a table are written into so many buckets before they run, at most; None for none.
    num_buckets: int | None = None

    @property
    def made(self) -> Path:
        """Return the folder of the rows of queries."""
        return self.run_folder / "tables"

    def buckets(self, table: str) -> Path:
        """Return the folder of a table's buckets."""
        return self._buckets / (table or _ONLY_TABLE)

    def drop_buckets(self) -> None:
        """Remove the buckets of all tables."""
        if self._buckets.is_dir():
            shutil.rmtree(self._buckets)

    @property
    def _buckets(self) -> Path:
        return self.run_folder / "buckets"
