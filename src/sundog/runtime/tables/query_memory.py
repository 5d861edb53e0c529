"""The memory that DuckDB may take for the queries of one run: little, and more where rows are long.

Owns the bounds, and that work is done again where there was too little. What the work is, only its caller knows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import TypeVar

import duckdb

from sundog.errors import RunError
from sundog.runtime.rows.duck import connect_duckdb

MIN_MEMORY_MB = 64
"""Beyond it what queries read goes to the scratch folder; the inputs of the same run have connections of their own."""
MAX_MEMORY_MB = 1024
"""Queries over long rows may take as much: DuckDB works on 2,048 rows at once, however long they are."""
T = TypeVar("T")


class QueryMemory:
    """This class holds a connection that begins with MIN_MEMORY_MB and spills into a folder."""

    def __init__(self, scratch_dir: Path) -> None:
        self._memory_mb = MIN_MEMORY_MB
        self._lock = Lock()
        self.connection = connect_duckdb(scratch_dir, f"{MIN_MEMORY_MB}MB")

    def with_room(self, work: Callable[[], T]) -> T:
        """Return what `work` gives. Where DuckDB lacks the memory for it, it may take twice as much, up to
        MAX_MEMORY_MB, and the work is done again."""
        while True:
            memory_mb = self._memory_mb
            try:
                return work()
            except RunError as error:
                if not isinstance(error.__cause__, duckdb.OutOfMemoryException) or memory_mb >= MAX_MEMORY_MB:
                    raise
                with self._lock:
                    # Another table's work may have made the room already.
                    self._memory_mb = max(self._memory_mb, min(2 * memory_mb, MAX_MEMORY_MB))
                    self.connection.execute(f"SET memory_limit = '{self._memory_mb}MB'")
