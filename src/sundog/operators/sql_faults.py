"""What a database error means for the call: whether it may be tried again, and whether a write may have happened.

Owns the reading of error codes. Never raises by itself.
"""

from __future__ import annotations

import sqlite3
from enum import Enum

from sqlalchemy.exc import DBAPIError, OperationalError

from sundog.errors import OperatorError

# Here a transaction that was not committed left nothing behind, whatever its statements were.
TRANSACTIONAL = frozenset({"sqlite", "postgresql"})

_SQLITE_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_SQLITE_REFUSED = _SQLITE_LOCKED | {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_FULL}
# Serialization failure and deadlock; connection; not enough resources; shutting down; lock not available.
_SQLSTATE_RETRYABLE = ("40", "08", "53", "57P", "55P03")
# The server rolled back and says so: integrity violation, serialization failure.
_SQLSTATE_ROLLED_BACK = ("23", "40")
# Lock wait, deadlock; too many connections, cannot connect, gone away, lost.
_MYSQL_RETRYABLE = {1205, 1213, 1040, 2002, 2003, 2006, 2013}


class Phase(Enum):
    """How far a statement had come."""

    CONNECTING = "connecting"
    EXECUTING = "executing"
    COMMITTING = "committing"


def fault_of(error: Exception, phase: Phase, backend: str, *, is_write: bool) -> OperatorError:
    """`error` as the call's failure, with the database's own message."""
    if isinstance(error, OperatorError):
        return error
    if not isinstance(error, DBAPIError):
        return OperatorError(f"the statement could not be sent: {error}")
    is_unknown = is_write and _may_have_acted(error, phase, backend)
    return OperatorError(
        f"{backend}: {str(error.orig).strip()}",
        hint="the commit may or may not have happened" if is_unknown else None,
        retryable=not is_unknown and _is_retryable(error, phase),
        is_outcome_unknown=is_unknown,
    )


def _is_retryable(error: DBAPIError, phase: Phase) -> bool:
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.Error):
        return _sqlite_code(error.orig) in _SQLITE_LOCKED
    if phase is Phase.CONNECTING:
        return isinstance(error, OperationalError)
    return _sqlstate(error).startswith(_SQLSTATE_RETRYABLE) or _mysql_code(error) in _MYSQL_RETRYABLE


def _may_have_acted(error: DBAPIError, phase: Phase, backend: str) -> bool:
    if phase is Phase.COMMITTING:
        if isinstance(error.orig, sqlite3.Error):
            return _sqlite_code(error.orig) not in _SQLITE_REFUSED
        return not _sqlstate(error).startswith(_SQLSTATE_ROLLED_BACK)
    # A lost connection ends the transaction, except where some statements commit on their own.
    return phase is Phase.EXECUTING and error.connection_invalidated and backend not in TRANSACTIONAL


def _sqlite_code(error: sqlite3.Error) -> int:
    # The low byte is the kind, the rest says which one of it.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _sqlstate(error: DBAPIError) -> str:
    # psycopg calls it sqlstate, psycopg2 pgcode.
    return getattr(error.orig, "sqlstate", None) or getattr(error.orig, "pgcode", None) or ""


def _mysql_code(error: DBAPIError) -> object:
    arguments = error.orig.args if error.orig is not None else ()
    return arguments[0] if arguments else None
