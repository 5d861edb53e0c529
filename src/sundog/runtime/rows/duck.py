"""The DuckDB connection of one run: bounded, offline, one thread, no writing outside its scratch folder.

Owns the settings and the quoting. Never holds rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import duckdb

MEMORY_LIMIT = "512MB"
MAX_LINE_BYTES = 16 * 2**20
_NUMBERS = count()


def connect_duckdb(scratch_dir: Path, memory_limit: str = MEMORY_LIMIT) -> duckdb.DuckDBPyConnection:
    """Return a connection that spills into `scratch_dir`. One thread: rows come in one order only."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": 1,
            "memory_limit": memory_limit,
            "temp_directory": str(scratch_dir),
            "preserve_insertion_order": True,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        },
    )
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    return connection


def stream(connection: duckdb.DuckDBPyConnection, sql: str, size: int = 1024) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of `sql`, `size` at a time, without holding the others."""
    with closing(connection.cursor()) as cursor:
        yield from fetched(cursor, sql, size)


def fetched(
    cursor: duckdb.DuckDBPyConnection, sql: str, size: int = 1024, parameters: Mapping[str, Any] | None = None
) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the rows of `sql` as `stream` does, by a cursor that nobody else uses meanwhile."""
    cursor.execute(sql, dict(parameters) if parameters else None)
    while rows := cursor.fetchmany(size):
        yield rows


def new_name(kind: str) -> str:
    """Return a name that no table of this process has."""
    return f"__{kind}_{next(_NUMBERS)}"


@contextmanager
def scratch_table(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """The name of a table that may be made and is gone afterwards, with what it spilled."""
    name = f"scratch_{next(_NUMBERS)}"
    try:
        yield name
    finally:
        connection.execute(f"DROP TABLE IF EXISTS {name}")


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def file_list(paths: Sequence[Path]) -> str:
    """Return `paths` as a DuckDB list; characters that DuckDB would read as a glob stand for themselves."""
    return "[" + ", ".join(literal(_escape_glob(str(path))) for path in paths) + "]"


def _escape_glob(path: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in path)
