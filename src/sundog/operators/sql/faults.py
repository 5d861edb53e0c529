"""The meaning of a database error for the call: whether it may be tried again, and whether a write may have happened.

Owns the reading of error codes. Never raises by itself.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from enum import Enum
from typing import Any

from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from sundog.errors import OperatorError

# Here a transaction that was not committed left nothing behind, whatever its statements were.
TRANSACTIONAL = frozenset({"sqlite", "duckdb", "postgresql"})

_SQLITE_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_SQLITE_REFUSED = _SQLITE_LOCKED | {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_FULL}
# Serialization failure and deadlock; connection; not enough resources; shutting down; lock not available.
_SQLSTATE_RETRYABLE = ("40", "08", "53", "57P", "55P03")
# The server rolled back and says so: integrity violation, serialization failure.
_SQLSTATE_ROLLED_BACK = ("23", "40")
# Lock wait, deadlock; too many connections, cannot connect, gone away, lost.
_MYSQL_RETRYABLE = {1205, 1213, 1040, 2002, 2003, 2006, 2013}
_MYSQL_ROLLED_BACK = {1213}
# The words of PostgreSQL, its pooler and MySQL; libpq gives no code with them.
_FULL = re.compile(
    "too many (clients|connections)|remaining connection slots|no more connections allowed|max_user_connections",
    re.IGNORECASE,
)
# SQL Server: deadlock victim, update conflict of a snapshot. Oracle: deadlock, cannot serialize.
_MSSQL_RETRYABLE = {1205, 3960}
_ORACLE_RETRYABLE = {60, 8177}
# Refused for a reason that time does not mend. libpq gives the words alone.
_REFUSED_FOR_GOOD = re.compile(
    r"password authentication failed|no password supplied|no pg_hba\.conf entry"
    r"|(database|role) \S+ does not exist|role \S+ is not permitted"
)
_MYSQL_REFUSED_FOR_GOOD = {1044, 1045, 1049}
# The type of a parameter could not be found out, or is another one: PostgreSQL's own four words for it.
_SQLSTATE_OF_TYPES = ("42P18", "42P08", "42804", "42883")
# The words of databases where one value belongs and a list of some stands.
_OF_BRACKETS = re.compile("row value misused|should contain 1 column|operator does not exist.* record", re.IGNORECASE)
_POINTED_LINE = re.compile(r"\nLINE 1: [^\n]*\n *\^")
_RETRYABLE_CODES = {
    "mysql": _MYSQL_RETRYABLE,
    "mariadb": _MYSQL_RETRYABLE,
    "mssql": _MSSQL_RETRYABLE,
    "oracle": _ORACLE_RETRYABLE,
}


class Phase(Enum):
    """The point that a statement had come to."""

    CONNECTING = "connecting"
    EXECUTING = "executing"
    COMMITTING = "committing"


def sql_fault_of(
    error: Exception, phase: Phase, backend: str, *, is_write: bool, params: Mapping[str, Any] | None = None
) -> OperatorError:
    """Return `error` as the call's failure, with the database's own message. `params`: of the statement."""
    if isinstance(error, OperatorError):
        return error
    if not isinstance(error, DBAPIError):
        return OperatorError(f"the statement could not be sent: {error}")
    is_unknown = is_write and _may_have_acted(error, phase, backend)
    is_retryable = not is_unknown and _is_retryable(error, phase, backend)
    hint = _hint(error, phase, params or {})
    if is_unknown:
        hint = "the commit may or may not have happened"
    elif is_retryable:
        hint = "nothing was changed; a larger `retries` of the step tries it more often"
        if is_server_full(error):
            hint += ", and a smaller `max_concurrency` in the flow's `limits` takes fewer connections"
    return OperatorError(
        f"{backend}: {_said(error, is_write=is_write)}",
        hint=hint,
        retryable=is_retryable,
        is_outcome_unknown=is_unknown,
    )


def is_server_full(error: DBAPIError) -> bool:
    """Return whether a server says that it has no connection left."""
    return _FULL.search(str(error.orig)) is not None


def _said(error: DBAPIError, *, is_write: bool) -> str:
    """Return the database's words. Where PostgreSQL points into the first line of a read, it shows the cursor that
    SQLAlchemy has put before it, under a name that differs each time: equal mistakes must be told alike."""
    said = str(error.orig).strip()
    return said if is_write else _POINTED_LINE.sub("", said, count=1)


def _hint(error: DBAPIError, phase: Phase, params: Mapping[str, Any]) -> str | None:
    lists = [name for name, value in params.items() if isinstance(value, list)]
    if lists and (_sqlstate(error).startswith(_SQLSTATE_OF_TYPES) or _OF_BRACKETS.search(str(error.orig))):
        return f"a list stands after `in`, and brings its brackets along: in :{lists[0]}"
    if phase is Phase.EXECUTING and _sqlstate(error).startswith(_SQLSTATE_OF_TYPES) and params:
        nulls = [name for name, value in params.items() if value is None]
        return f"write cast(:{(nulls or list(params))[0]} as type): the database cannot tell which type a parameter has"
    if isinstance(error, DataError) and not _sqlstate(error):
        return "the driver cannot hold this value: cast it to text in the query"
    return None


def _is_refused_for_good(error: DBAPIError) -> bool:
    return _REFUSED_FOR_GOOD.search(str(error.orig)) is not None or _code(error) in _MYSQL_REFUSED_FOR_GOOD


def _is_retryable(error: DBAPIError, phase: Phase, backend: str) -> bool:
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.Error):
        return _sqlite_code(error.orig) in _SQLITE_LOCKED
    if phase is Phase.CONNECTING:
        return isinstance(error, OperationalError) and not _is_refused_for_good(error)
    return _sqlstate(error).startswith(_SQLSTATE_RETRYABLE) or _code(error) in _RETRYABLE_CODES.get(backend, ())


def _may_have_acted(error: DBAPIError, phase: Phase, backend: str) -> bool:
    if phase is Phase.COMMITTING:
        if isinstance(error.orig, sqlite3.Error):
            return _sqlite_code(error.orig) not in _SQLITE_REFUSED
        return not _sqlstate(error).startswith(_SQLSTATE_ROLLED_BACK) and _code(error) not in _MYSQL_ROLLED_BACK
    # A lost connection ends the transaction, except where some statements commit on their own.
    return phase is Phase.EXECUTING and error.connection_invalidated and backend not in TRANSACTIONAL


def _sqlite_code(error: sqlite3.Error) -> int:
    # The low byte is the kind, the rest says which one of it.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _sqlstate(error: DBAPIError) -> str:
    # psycopg calls it sqlstate, psycopg2 pgcode, and with pyodbc it is the first argument.
    first = _first_argument(error)
    state = getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None)
    return state or (first if isinstance(first, str) and re.fullmatch("[0-9A-Z]{5}", first) else "")


def _code(error: DBAPIError) -> object:
    """Return the server's own number of the error: with MySQL and pymssql the first argument, with Oracle a part of
    it."""
    first = _first_argument(error)
    return getattr(first, "code", first)


def _first_argument(error: DBAPIError) -> object:
    arguments = error.orig.args if error.orig is not None else ()
    return arguments[0] if arguments else None
