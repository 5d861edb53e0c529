"""Rows as a table of a DuckDB database file.

Owns the transaction: the table is there as a whole or as it was before; other tables stay. The rows pass through a
Parquet file beside the database, so that they need no memory and have the types that a Parquet output has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb

from sundog.errors import ConfigError, RunError
from sundog.runtime.rows.duck import MEMORY_LIMIT, file_list
from sundog.runtime.rows.failures import first_sentence
from sundog.runtime.rows.formats.stored_rows import StoredRows, parsed
from sundog.runtime.rows.whole_file import told_failures, whole_file


def check_database(path: Path) -> None:
    """Raise ConfigError where `path` is there and cannot be written as a database."""
    if not path.exists():
        return
    try:
        duckdb.connect(str(path)).close()
    except duckdb.Error as error:
        raise ConfigError(
            f"cannot open the output {path} as a DuckDB database: {first_sentence(error)}", hint=_hint(error)
        ) from error


def write_table(path: Path, table: str, columns: Sequence[str], rows: StoredRows) -> tuple[str, ...]:
    """Replace `table` of the database at `path`, which is made where it is not there; returns warnings. RunError when
    it cannot be written."""
    from sundog.runtime.rows.formats.parquet_file import write_parquet

    staged, is_new = path.with_name(f".{path.name}.{table}.parquet"), not path.exists()
    try:
        with whole_file(staged) as stream:
            warnings = write_parquet(stream, columns, lambda: parsed(rows()))
        with _explained(path, table), duckdb.connect(str(path), config={"threads": 1}) as database:
            database.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
            database.execute("BEGIN")
            database.execute(f'CREATE OR REPLACE TABLE "{table}" AS SELECT * FROM read_parquet({file_list([staged])})')
            database.execute("COMMIT")
    except BaseException:
        if is_new:
            path.unlink(missing_ok=True)
        raise
    finally:
        staged.unlink(missing_ok=True)
    return warnings


@contextmanager
def _explained(path: Path, table: str) -> Iterator[None]:
    try:
        with told_failures(str(path)):
            yield
    except duckdb.Error as error:
        raise RunError(f"cannot write table '{table}' of {path}: {first_sentence(error)}", hint=_hint(error)) from error


def _hint(error: duckdb.Error) -> str:
    if "lock" in str(error).lower() or isinstance(error, duckdb.ConnectionException):
        return "it is open elsewhere: close it there, and repeat the command"
    return "repeat the command when it can be written, or name another file; nothing finished is lost"
