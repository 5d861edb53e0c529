"""This module lets a database tell what is wrong with a SQL step before anything runs.

Owns the ways to let a database look at a statement without running it: SQLite and DuckDB explain it, PostgreSQL parses
it. Never changes a database, and gives no statement of the user's to one that could only run it.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Dialect, create_engine, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from sundog.errors import OperatorError
from sundog.operators.base import Finding
from sundog.operators.sql.database import open_sqlite
from sundog.operators.sql.faults import Phase, sql_fault_of
from sundog.operators.sql.judge import Judgement, Reach
from sundog.operators.sql.url import file_path

CONNECT_TIMEOUT_S = 5
_NUMBERED: Dialect = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]  # SQLAlchemy's
_LIST_PARAM = re.compile(r"(\bin\s*):(\w+)", re.IGNORECASE)
# It is no statement that SQLite could explain, but the explanation of one.
_EXPLANATION = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*explain\b", re.IGNORECASE | re.DOTALL)
_SQLITE_SYNTAX = re.compile("syntax error|incomplete input|unrecognized token")
_SYNTAX = "42601"
# A server that says so may answer in time.
_BUSY = re.compile("too many|remaining connection slots|starting up|shutting down|recovery mode", re.IGNORECASE)
# No such table, column, schema. What else it says depends on the types that values will have.
_MISSING = ("42P01", "42703", "3F000")
_UNCERTAIN = ("42P18", "42P08", "42804", "42725", "42883", "25006")


def findings_of(query: str, url: URL, base_dir: Path, judgement: Judgement) -> list[Finding]:
    """Return what the database at `url` says of `query`, and what the judge does where the database says nothing."""
    backend = url.get_backend_name()
    try:
        if backend == "sqlite":
            return list(_asked_sqlite(query, file_path(url, base_dir)))
        if backend == "duckdb":
            return list(_asked_duckdb(query, file_path(url, base_dir), judgement))
        found, was_asked = _asked_server(query, url)
    except OperatorError as error:
        is_busy = _BUSY.search(error.what) is not None
        hint = f"is it running? {_address(url)}" if error.retryable and not is_busy else error.hint
        return [*_unparsed(judgement), Finding(error.what, hint, not is_busy, is_of_state=True)]
    return found if was_asked else [*found, *_unparsed(judgement)]


def _address(url: URL) -> str:
    return f"{url.host or 'localhost'}:{url.port}" if url.port else url.host or "localhost"


def _unparsed(judgement: Judgement) -> Iterator[Finding]:
    if judgement.complaint is not None:
        yield Finding(
            f"the statement could not be parsed ({judgement.complaint}), so it counts as a write",
            "correct it; if it is right, this can stay",
        )


def _asked_sqlite(query: str, path: Path) -> Iterator[Finding]:
    engine = open_sqlite(path, 1, is_write=False)
    try:
        with engine.connect() as connection:
            explain = "" if _EXPLANATION.match(query) else "explain "
            statement = text(explain + _with_lists(query))
            connection.execute(statement, dict.fromkeys(statement.compile().params))
    except DBAPIError as error:
        message = str(error.orig).strip()
        if isinstance(error.orig, sqlite3.DatabaseError) and "not a database" in message:
            yield Finding(f"sqlite: {message}: {path}", "name a SQLite file", is_fatal=True, is_of_state=True)
        elif message.startswith(("no such table", "no such column", "table ", "no such function")):
            yield Finding(f"sqlite: {message}", _near(message, path), is_fatal=True, is_of_state=True)
        else:
            yield Finding(f"sqlite: {message}", is_fatal=_SQLITE_SYNTAX.search(message) is not None)
    except SQLAlchemyError as error:
        yield Finding(f"the statement could not be sent: {error}")
    finally:
        engine.dispose()


def _asked_duckdb(query: str, path: Path, judgement: Judgement) -> Iterator[Finding]:
    """DuckDB explains what only reads; of a write it says only whether it can be read."""
    import duckdb

    from sundog.operators.sql.duckdb_file import duckdb_fault_of, numbered, open_duckdb

    try:
        with open_duckdb(path, is_write=False) as connection:
            statement, names = numbered(text(query))
            if judgement.reach is Reach.WRITE:
                connection.extract_statements(statement)
            else:
                connection.execute(f"explain {statement}", [None] * len(names))
    except duckdb.Error as error:
        is_missing = isinstance(error, duckdb.CatalogException | duckdb.BinderException)
        is_wrong = is_missing or isinstance(error, duckdb.ParserException)
        found = duckdb_fault_of(error, Phase.EXECUTING, is_write=False)
        yield Finding(found.what, found.hint, is_fatal=is_wrong, is_of_state=is_missing)


def _with_lists(query: str) -> str:
    """Return `query` with one value in place of each list."""
    return _LIST_PARAM.sub(r"\1(:\2)", query)


def _near(message: str, path: Path) -> str | None:
    if not message.startswith("no such table"):
        return None
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        found = connection.execute("select name from sqlite_master where type in ('table', 'view') order by name")
        names = [name for (name,) in found.fetchmany(10)]
    return f"tables of {path.name}: {', '.join(names) or 'none'}"


def _asked_server(query: str, url: URL) -> tuple[list[Finding], bool]:
    """Return what the server says, and whether it was asked about the statement; OperatorError where it cannot be
    reached."""
    options: dict[str, Any] = {}
    if url.drivername in ("postgresql+psycopg", "postgresql+psycopg2", "mysql+pymysql", "mysql+mysqldb"):
        options["connect_args"] = {"connect_timeout": CONNECT_TIMEOUT_S}
    engine = create_engine(url, **options)
    try:
        with engine.connect() as connection:
            if url.get_driver_name() != "psycopg":
                return [], False
            return list(_asked_psycopg(query, connection.connection.driver_connection)), True
    except DBAPIError as error:
        raise sql_fault_of(error, Phase.CONNECTING, url.get_backend_name(), is_write=False) from error
    finally:
        engine.dispose()


def _asked_psycopg(query: str, connection: Any) -> Iterator[Finding]:
    """PostgreSQL parses and analyses the statement; a parameter has the type that its place asks for."""
    from psycopg.pq import DiagnosticField, ExecStatus

    # Whoever has locked a table may hold it for long, and nobody can stop this wait from outside.
    connection.execute(f"set statement_timeout = '{CONNECT_TIMEOUT_S}s'")
    compiled = text(_with_lists(query)).compile(dialect=_NUMBERED)
    result = connection.pgconn.prepare(b"", str(compiled).encode(), None)
    if result.status != ExecStatus.FATAL_ERROR:
        return
    fields: Mapping[DiagnosticField, bytes | None] = {
        field: result.error_field(field)
        for field in (DiagnosticField.SQLSTATE, DiagnosticField.MESSAGE_PRIMARY, DiagnosticField.MESSAGE_HINT)
    }
    state, message, hint = ((value or b"").decode("utf-8", "replace") for value in fields.values())
    if not state.startswith(_UNCERTAIN):
        is_missing = state in _MISSING
        yield Finding(
            f"postgresql: {message}", hint or None, is_fatal=is_missing or state == _SYNTAX, is_of_state=is_missing
        )
