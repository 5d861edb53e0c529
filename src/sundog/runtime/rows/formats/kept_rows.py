"""Rows of small files, kept in DuckDB's memory: such a file is read once, however often its rows are asked for.

Owns which files are small. A large one is read again for each question: its copy would fill memory, or the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import duckdb

MAX_KEPT_BYTES = 8 * 2**20
"""Files of one input that have no more together are kept; a connection has 512 MB."""
_NUMBERS = count()


def kept_or_read(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], reader: str) -> str:
    """Return the name of a new table with the rows of `reader`, a table function over `paths`, there for as long as the
    connection is; or `reader` itself, where the files are large, or compressed so that nobody knows. Raises what DuckDB
    raises where they cannot be read."""
    if any(path.suffix == ".gz" for path in paths) or sum(path.stat().st_size for path in paths) > MAX_KEPT_BYTES:
        return reader
    name = f"kept_{next(_NUMBERS)}"
    connection.execute(f"CREATE TABLE {name} AS SELECT * FROM {reader}")
    return name
