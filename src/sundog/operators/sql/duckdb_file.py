"""A DuckDB file of a run: its connections, and one statement's way through them.

Owns who has the file open. A process opens a DuckDB file either for reads or for writes, so a write waits until the
reads before it have ended, and reads wait for it. Statements see nothing but the file: no other files, no network, no
extensions, none of this process's variables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from datetime import date, datetime
from pathlib import Path
from threading import Condition
from typing import Any

import duckdb
from sqlalchemy import TextClause
from sqlalchemy.engine.default import DefaultDialect

from sundog.errors import OperatorError
from sundog.operators.sql.database import (
    Database,
    Statement,
    StatementAttempt,
)
from sundog.operators.sql.faults import Phase
from sundog.operators.sql.rows import SQLRow, check_names, take_rows, to_row

MEMORY_LIMIT = "2GB"
DISK_LIMIT = "4GB"
"""In a folder beside the file; DuckDB itself would take nine tenths of what the disk has left."""
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "python_enable_replacements": False,
    "autoload_known_extensions": False,
    "memory_limit": MEMORY_LIMIT,
    "max_temp_directory_size": DISK_LIMIT,
    "lock_configuration": True,
}
_NUMBERED = DefaultDialect(paramstyle="numeric_dollar")
# The driver gives Python's types, which hold no months, no nanoseconds and no infinity.
_ROUNDED_TYPES = ("INTERVAL", "TIMESTAMP_NS", "TIME_NS")
_BOUNDS = (date.min, date.max, datetime.min, datetime.max)
_HINT_OF_TEXT = "cast it to text in the query"


class DuckDBFile:
    """This class opens the file for reads or for writes, whichever is asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = Condition()
        self._is_write = False
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._num_lent = self._num_waiting_writes = 0

    @contextmanager
    def lent(self, is_stopped: Callable[[], bool], *, is_write: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection in a transaction, rolled back unless the body commits it. OperatorError where the file is
        not there or the call is stopped while it waits (`wake` must follow), duckdb.Error where it cannot be opened."""
        cursor = self._enter(is_stopped, is_write=is_write)
        try:
            # A read that were no read could not write here: the file is open for reads alone.
            cursor.execute("begin transaction" if is_write else "begin transaction read only")
            yield cursor
        finally:
            cursor.close()
            with self._changed:
                self._num_lent -= 1
                if is_write:
                    self._close()
                self._changed.notify_all()

    def wake(self) -> None:
        """Let those that wait look whether they are stopped."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Close the file; a statement that cannot be stopped keeps it open until it ends."""
        with self._changed:
            self._close()

    def _enter(self, is_stopped: Callable[[], bool], *, is_write: bool) -> duckdb.DuckDBPyConnection:
        with self._changed:
            self._num_waiting_writes += is_write
            try:
                self._changed.wait_for(lambda: is_stopped() or self._may_enter(is_write=is_write))
                if is_stopped():
                    raise OperatorError("stopped while it waited for the file")
                if self._connection is None or self._is_write is not is_write:
                    self._close()
                    self._connection, self._is_write = open_duckdb(self._path, is_write=is_write), is_write
                cursor = self._connection.cursor()
                self._num_lent += 1
                return cursor
            finally:
                self._num_waiting_writes -= is_write
                self._changed.notify_all()

    def _may_enter(self, *, is_write: bool) -> bool:
        if is_write:
            return self._num_lent == 0
        # Reads go on coming, so a write that waits goes before those that come after it.
        return self._num_waiting_writes == 0 and (self._num_lent == 0 or not self._is_write)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def open_duckdb(path: Path, *, is_write: bool) -> duckdb.DuckDBPyConnection:
    """Return a connection that never creates the file, and sees nothing else."""
    if not path.is_file():
        raise OperatorError(
            f"the database file is not there: {path}", hint="a relative path starts at the flow file's folder"
        )
    return duckdb.connect(str(path), read_only=not is_write, config=_CONFIG)


class DuckDBDatabase(Database):
    """This class runs statements of one kind, reads or writes, on a DuckDB file; `file` is that of both."""

    takes_lists = True

    def __init__(self, file: DuckDBFile, *, max_connections: int, is_write: bool) -> None:
        self.backend = "duckdb"
        self._lending = _Lending(file, is_write=is_write)
        self._threads = ThreadPoolExecutor(max_connections, thread_name_prefix="sundog-duckdb")

    def attempt(self, statement: Statement, timeout_s: float) -> StatementAttempt:
        return _DuckDBAttempt(self._lending, self.backend, statement, timeout_s, {})

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._lending.file.close()


class _Lending:
    """The file, as one kind of statements has it."""

    def __init__(self, file: DuckDBFile, *, is_write: bool) -> None:
        self.file = file
        self.wake = file.wake
        self._is_write = is_write

    def lent(self, is_stopped: Callable[[], bool]) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        return self.file.lent(is_stopped, is_write=self._is_write)


class _DuckDBAttempt(StatementAttempt):
    faults = (*StatementAttempt.faults, duckdb.Error)

    def prepare(self, connection: Any) -> None:
        self.set_driver_connection(connection)

    def execute(self, connection: Any) -> list[SQLRow]:
        statement, names = numbered(self.statement.text)
        values = [self.statement.params[name] for name in names]
        self.raise_if_stopped()
        self.is_sent = True
        connection.execute(statement, values)
        if self.statement.is_write and (num_rows := _num_changed(connection)) is not None:
            return [{"num_rows": num_rows if num_rows >= 0 else None}]
        return _fetch(connection, self.statement)

    def fault(self, error: Exception, phase: Phase) -> OperatorError:
        if isinstance(error, duckdb.Error):
            return duckdb_fault_of(error, phase, is_write=self.statement.is_write)
        return super().fault(error, phase)


def numbered(statement: TextClause) -> tuple[str, Sequence[str]]:
    """Return a statement as DuckDB reads it, and the names of its parameters in their order."""
    compiled = statement.compile(dialect=_NUMBERED)
    return str(compiled), list(dict.fromkeys(compiled.positiontup or ()))


def duckdb_fault_of(error: duckdb.Error, phase: Phase, *, is_write: bool) -> OperatorError:
    """Return `error` as the call's failure, in DuckDB's words without its picture of the statement."""
    said, _, _ = str(error).partition("\n\n")
    what = f"duckdb: {said.strip()}"
    if phase is Phase.CONNECTING and isinstance(error, duckdb.IOException | duckdb.ConnectionException):
        return OperatorError(what, hint="another program, or another run, may have the file open", retryable=True)
    if isinstance(error, duckdb.TransactionException):
        return OperatorError(what, hint="nothing was changed", retryable=True)
    if isinstance(error, duckdb.OutOfMemoryException):
        return OperatorError(
            what, hint=f"a statement has {MEMORY_LIMIT} of memory and {DISK_LIMIT} of disk: let it read or sort less"
        )
    # What the disk did not take may be in the file's log all the same.
    is_unknown = is_write and phase is Phase.COMMITTING and not isinstance(error, duckdb.IntegrityError)
    return OperatorError(what, is_outcome_unknown=is_unknown)


def _num_changed(connection: duckdb.DuckDBPyConnection) -> int | None:
    """Return how many rows a write changed, -1 where it counts none; None where it gives rows."""
    if [name for name, *_ in connection.description or ()] not in ([], ["Count"], ["Success"]):
        return None
    return connection.rowcount


def _fetch(connection: duckdb.DuckDBPyConnection, statement: Statement) -> list[SQLRow]:
    columns = connection.description or []
    names = [column[0] for column in columns]
    check_names(names)
    for name, type, *_ in columns:
        if any(one in str(type) for one in _ROUNDED_TYPES):
            raise OperatorError(f"the column '{name}' is of type {type}, which would be rounded", hint=_HINT_OF_TEXT)
    found = take_rows(connection.fetchmany, statement.max_rows, statement.max_bytes)
    return [to_row(names, [_exact(name, value) for name, value in zip(names, row, strict=True)]) for row in found]


def _exact(name: str, value: Any) -> Any:
    """Return `value`; OperatorError where it may be another one: the driver has these dates for infinity too."""
    match value:
        case date() if value.replace(tzinfo=None) in _BOUNDS if isinstance(value, datetime) else value in _BOUNDS:
            raise OperatorError(f"the column '{name}' holds {value}, or an infinity", hint=_HINT_OF_TEXT)
        case list() | tuple():
            for item in value:
                _exact(name, item)
        case dict():
            for item in value.values():
                _exact(name, item)
    return value
