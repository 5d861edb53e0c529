"""One database of a run: its connections, its threads, and one statement's way through them.

Owns transactions, time limits and the reading of database errors. Never builds a statement from values: they are bound.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar, Protocol
from urllib.parse import quote

from sqlalchemy import URL, Connection, CursorResult, Engine, QueuePool, TextClause, create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from sundog.errors import OperatorError
from sundog.operators.sql.connections import HeldConnections
from sundog.operators.sql.faults import TRANSACTIONAL, Phase, sql_fault_of
from sundog.operators.sql.rows import SQLRow, check_names, gave_too_many_bytes, take_rows, to_row
from sundog.operators.sql.url import file_path
from sundog.operators.sql.values import exact_json, read_postgresql_as_it_is

STOP_WAIT_S = 5.0
STOP_INTERVAL_S = 0.05
_MAX_SQLITE_LENGTH = 1_000_000_000
_SQLITE_TOO_BIG = sqlite3.SQLITE_TOOBIG
_NUM_BUFFERED_LONG_ROWS = 64

# Without a handler the tracebacks of connections that could not be tidied up would be printed over the progress
# display; what went wrong is the row's error in any case.
logging.getLogger("sqlalchemy").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with every parameter named in it."""

    text: TextClause
    #: The parameters' values, a list for each expanding one.
    params: Mapping[str, Any]
    is_write: bool
    max_rows: int
    #: A column whose values are given as the driver has them, and not as JSON types.
    raw_column: str | None = None
    #: The names of the expanding parameters.
    lists: tuple[str, ...] = ()
    #: The same statement will come again.
    is_remembered: bool = True
    #: The whole result has about so many bytes at most; None for any.
    max_bytes: int | None = None


class Lending(Protocol):
    """Connections that a database lends to threads."""

    def lent(self, is_stopped: Callable[[], bool]) -> AbstractContextManager[Any]:
        """Yield a connection, with `commit`. A fault of the driver where there is none to be had, or the call is
        stopped while it waits (`wake` must follow)."""
        ...

    def wake(self) -> None:
        """Let those that wait look whether they are stopped."""
        ...


class Database:
    """This class runs the statements of one database, over at most `max_connections` connections. `execute` may be
    called many times at once on one event loop; it waits in threads. `is_write`: of a SQLite file, which is open either
    for reads or for writes; other databases take both."""

    #: A parameter may be a list as it is, and is not written out as its elements.
    takes_lists = False

    def __init__(self, url: URL, base_dir: Path, *, max_connections: int, is_write: bool = False) -> None:
        self.backend = url.get_backend_name()
        if self.backend == "sqlite":
            self._engine = open_sqlite(file_path(url, base_dir), max_connections, is_write=is_write)
        else:
            self._engine = _open_server(url, max_connections)
        self._connections = HeldConnections(self._engine)
        # SQLAlchemy's own cache takes a statement with a list and one with a value in its place for the same.
        self._compiled: dict[tuple[str, ...], dict[Any, Any]] = {}
        self._threads = ThreadPoolExecutor(max_connections, thread_name_prefix="sundog-sql")

    async def execute(self, statement: Statement, *, timeout_s: float) -> list[SQLRow]:
        """Return the rows, or [{"num_rows": n}] of a statement that has none.

        A statement past `timeout_s`, or whose caller is cancelled, is stopped and not committed.
        """
        attempt = self.attempt(statement, timeout_s)
        future = asyncio.get_running_loop().run_in_executor(self._threads, attempt.run)
        try:
            await asyncio.wait({future}, timeout=timeout_s)
            if not future.done():
                await _stop(attempt, future)
        except asyncio.CancelledError:
            await _stop(attempt, future)
            raise
        if future.done():
            return future.result()
        is_unknown = statement.is_write and (attempt.is_committing or self.backend not in TRANSACTIONAL)
        raise OperatorError(
            f"no answer within {timeout_s:g} s, and the statement could not be stopped",
            hint="raise the step's timeout or make the query cheaper",
            retryable=not is_unknown,
            is_outcome_unknown=is_unknown,
        )

    def attempt(self, statement: Statement, timeout_s: float) -> StatementAttempt:
        """Return an attempt at `statement` that has not begun."""
        compiled = self._compiled.setdefault(statement.lists, {})
        return StatementAttempt(self._connections, self.backend, statement, timeout_s, compiled)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()


async def _stop(attempt: StatementAttempt, future: asyncio.Future[list[SQLRow]]) -> None:
    """Stop the statement and wait for its thread, at most STOP_WAIT_S."""
    future.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    for _ in range(round(STOP_WAIT_S / STOP_INTERVAL_S)):
        # Once is not enough: the driver forgets a stop that comes just before the statement starts.
        await asyncio.to_thread(attempt.stop)
        await asyncio.wait({future}, timeout=STOP_INTERVAL_S)
        if future.done():
            return


@dataclass
class StatementAttempt:
    """One statement in one transaction: `run` in a thread, `stop` from any other."""

    # Drivers refuse values they cannot send (an integer past 64 bits, half a surrogate pair) with the last two.
    faults: ClassVar[tuple[type[Exception], ...]] = (SQLAlchemyError, OperatorError, OverflowError, ValueError)

    connections: Lending
    backend: str
    statement: Statement
    timeout_s: float
    compiled: dict[Any, Any]
    is_stopped: bool = False
    is_sent: bool = False
    is_committing: bool = False
    _driver_connection: Any = None
    _lock: Lock = field(default_factory=Lock)

    def run(self) -> list[SQLRow]:
        """Execute the statement in a transaction of its own and return its rows. OperatorError for any fault, which
        says how far the statement had come."""
        phase = Phase.CONNECTING
        try:
            self.raise_if_stopped()
            with self.connections.lent(lambda: self.is_stopped) as connection:
                phase = Phase.EXECUTING
                try:
                    self.prepare(connection)
                    rows = self.execute(connection)
                    phase = Phase.COMMITTING
                    self._enter_commit()
                    connection.commit()
                    return rows
                finally:
                    # From here on the connection is another call's, which no stop of this one may reach.
                    self.set_driver_connection(None)
        except self.faults as error:
            if self.is_stopped and not self.is_committing:
                raise self._timeout() from error
            raise self.fault(error, phase) from error

    def stop(self) -> None:
        """Keep `run` from committing and end its statement, unless the commit has begun."""
        with self._lock:
            self.is_stopped = True
            self.connections.wake()
            if self._driver_connection is None or self.is_committing:
                return
            # sqlite3 has interrupt(), psycopg and oracledb have cancel(); a driver with neither runs on, uncommitted.
            for name in ("interrupt", "cancel"):
                if hasattr(self._driver_connection, name):
                    getattr(self._driver_connection, name)()
                    return

    def set_driver_connection(self, connection: Any) -> None:
        """Tell which connection is to be interrupted, None for none."""
        with self._lock:
            self._driver_connection = connection

    def prepare(self, connection: Any) -> None:
        """Make a connection ready for the statement."""
        driver_connection = connection.connection.driver_connection
        if self.backend == "sqlite":
            # It waits for nothing, so nothing has to interrupt it.
            wait_ms = max(1, round(self.timeout_s * 1000))
            driver_connection.execute(f"PRAGMA busy_timeout = {wait_ms}").close()
            longest = _MAX_SQLITE_LENGTH if self.statement.max_bytes is None else self.statement.max_bytes
            driver_connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, longest)
        self.set_driver_connection(driver_connection)
        if self.backend == "postgresql" and not self.statement.is_write:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")

    def execute(self, connection: Any) -> list[SQLRow]:
        """Return the rows, in their JSON forms."""
        self.raise_if_stopped()
        self.is_sent = True
        cache = self.compiled if self.statement.is_remembered else None
        options: dict[str, Any] = {"stream_results": not self.statement.is_write, "compiled_cache": cache}
        if self.statement.max_bytes is not None:
            options["max_row_buffer"] = _NUM_BUFFERED_LONG_ROWS
        result = connection.execute(self.statement.text, self.statement.params, execution_options=options)
        if not result.returns_rows:
            # Drivers say -1 where a statement counts nothing, as CREATE TABLE.
            return [{"num_rows": result.rowcount if result.rowcount >= 0 else None}]
        return _fetch(result, self.statement)

    def fault(self, error: Exception, phase: Phase) -> OperatorError:
        """Return `error` as the call's failure."""
        is_write, params, max_bytes = self.statement.is_write, self.statement.params, self.statement.max_bytes
        if max_bytes is not None and getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) == _SQLITE_TOO_BIG:
            return gave_too_many_bytes(max_bytes)
        return sql_fault_of(error, phase, self.backend, is_write=is_write, params=params)

    def _enter_commit(self) -> None:
        with self._lock:
            self.raise_if_stopped()
            self.is_committing = self.statement.is_write

    def raise_if_stopped(self) -> None:
        if self.is_stopped:
            raise self._timeout()

    def _timeout(self) -> OperatorError:
        # Without transactions around everything, a stopped statement may have done a part of its work.
        is_unknown = self.statement.is_write and self.is_sent and self.backend not in TRANSACTIONAL
        what = "stopped, and may have changed something" if is_unknown else "stopped and nothing committed"
        return OperatorError(
            f"no answer within {self.timeout_s:g} s; the statement was {what}",
            hint="raise the step's timeout or make the query cheaper",
            retryable=not is_unknown,
            is_outcome_unknown=is_unknown,
        )


def _fetch(result: CursorResult[Any], statement: Statement) -> list[SQLRow]:
    # An open result would keep SQLite's connection at work: a later interrupt would end the statements of others.
    with closing(result):
        names = list(result.keys())
        check_names(names)
        found = take_rows(result.fetchmany, statement.max_rows, statement.max_bytes)
    return [to_row(names, row, statement.raw_column) for row in found]


def open_sqlite(path: Path, max_connections: int, *, is_write: bool) -> Engine:
    """Return connections that never create the file, and that cannot write unless asked to."""

    def connect() -> sqlite3.Connection:
        if not path.is_file():
            raise OperatorError(
                f"the database file is not there: {path}", hint="a relative path starts at the flow file's folder"
            )
        mode = "rw" if is_write else "ro"
        return sqlite3.connect(
            f"file:{quote(str(path))}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False
        )

    engine = create_engine("sqlite://", creator=connect, **_pool_of(max_connections))
    if is_write:
        # Without an isolation level sqlite3 begins no transaction by itself, and DDL would not be part of one with it.
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN")

        event.listen(engine, "begin", begin)
    return engine


def _open_server(url: URL, max_connections: int) -> Engine:
    # Pre-ping: a connection idle while a model answers may be gone, and a write is not tried twice.
    options: dict[str, Any] = {"json_deserializer": exact_json} if url.get_backend_name() == "postgresql" else {}
    engine = create_engine(url, pool_pre_ping=True, **options, **_pool_of(max_connections))
    if options:

        def connected(connection: Any, record: Any) -> None:
            read_postgresql_as_it_is(connection)

        event.listen(engine, "connect", connected)
    return engine


def _pool_of(max_connections: int) -> dict[str, Any]:
    return {"poolclass": QueuePool, "pool_size": max_connections, "max_overflow": 0}
