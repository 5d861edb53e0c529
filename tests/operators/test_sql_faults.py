"""The meaning of databases' errors, by their codes."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError

from sundog.errors import OperatorError
from sundog.operators.sql.faults import Phase, sql_fault_of

CONNECTING, EXECUTING, COMMITTING = Phase.CONNECTING, Phase.EXECUTING, Phase.COMMITTING


class ServerError(Exception):
    def __init__(self, sqlstate: str) -> None:
        super().__init__(f"the server says: {sqlstate}.")
        self.sqlstate = sqlstate


class OracleError:
    def __init__(self, code: int) -> None:
        self.code = code

    def __str__(self) -> str:
        return f"ORA-{self.code}"


REFUSED = 'connection failed: FATAL:  password authentication failed for user "u"'


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("the file says no")
    error.sqlite_errorcode = code
    return error


def wrapped(original: Exception, *, is_lost: bool = False) -> DBAPIError:
    return OperationalError("select secret", {"p": "secret"}, original, connection_invalidated=is_lost)


@pytest.mark.parametrize(
    ("error", "phase", "backend", "on_read", "on_write"),
    [
        # (retryable, is_outcome_unknown)
        (wrapped(sqlite_error(5)), EXECUTING, "sqlite", (True, False), (True, False)),
        (wrapped(sqlite_error(261)), EXECUTING, "sqlite", (True, False), (True, False)),
        (wrapped(sqlite_error(5)), COMMITTING, "sqlite", (True, False), (True, False)),
        (wrapped(sqlite_error(787)), COMMITTING, "sqlite", (False, False), (False, False)),
        (wrapped(sqlite_error(10)), COMMITTING, "sqlite", (False, False), (False, True)),
        (wrapped(sqlite_error(1)), EXECUTING, "sqlite", (False, False), (False, False)),
        (wrapped(ServerError("40001")), EXECUTING, "postgresql", (True, False), (True, False)),
        (wrapped(ServerError("40001")), COMMITTING, "postgresql", (True, False), (True, False)),
        (wrapped(ServerError("40P01")), EXECUTING, "postgresql", (True, False), (True, False)),
        (wrapped(ServerError("55P03")), EXECUTING, "postgresql", (True, False), (True, False)),
        (wrapped(ServerError("23505")), EXECUTING, "postgresql", (False, False), (False, False)),
        (wrapped(ServerError("23503")), COMMITTING, "postgresql", (False, False), (False, False)),
        (wrapped(ServerError("42P01")), EXECUTING, "postgresql", (False, False), (False, False)),
        (wrapped(ServerError("57P01"), is_lost=True), EXECUTING, "postgresql", (True, False), (True, False)),
        (wrapped(ServerError(""), is_lost=True), COMMITTING, "postgresql", (True, False), (False, True)),
        (wrapped(ServerError("")), CONNECTING, "postgresql", (True, False), (True, False)),
        (wrapped(Exception(1213, "deadlock")), EXECUTING, "mysql", (True, False), (True, False)),
        (wrapped(Exception(2013, "lost"), is_lost=True), EXECUTING, "mysql", (True, False), (False, True)),
        (wrapped(Exception(2003, "no route")), CONNECTING, "mysql", (True, False), (True, False)),
        (wrapped(Exception(1064, "syntax")), EXECUTING, "mysql", (False, False), (False, False)),
        (wrapped(Exception(1213, "deadlock")), EXECUTING, "mariadb", (True, False), (True, False)),
        (wrapped(Exception(1213, "deadlock")), COMMITTING, "mysql", (True, False), (True, False)),
        (wrapped(Exception(1205, "lock wait")), EXECUTING, "mysql", (True, False), (True, False)),
        (wrapped(Exception(1205, "deadlock victim")), EXECUTING, "mssql", (True, False), (True, False)),
        (wrapped(Exception(3960, "update conflict")), EXECUTING, "mssql", (True, False), (True, False)),
        (wrapped(Exception("40001", "deadlock victim")), EXECUTING, "mssql", (True, False), (True, False)),
        (wrapped(Exception(OracleError(8177))), EXECUTING, "oracle", (True, False), (True, False)),
        (wrapped(Exception(OracleError(60))), EXECUTING, "oracle", (True, False), (True, False)),
        (wrapped(Exception(OracleError(942))), EXECUTING, "oracle", (False, False), (False, False)),
        (wrapped(Exception("too many connections for role")), CONNECTING, "postgresql", (True, False), (True, False)),
        (wrapped(Exception(REFUSED)), CONNECTING, "postgresql", (False, False), (False, False)),
        (wrapped(Exception('database "x" does not exist')), CONNECTING, "postgresql", (False, False), (False, False)),
        (wrapped(Exception(1045, "access denied")), CONNECTING, "mysql", (False, False), (False, False)),
    ],
)
def test_what_an_error_means(
    error: DBAPIError, phase: Phase, backend: str, on_read: tuple[bool, bool], on_write: tuple[bool, bool]
) -> None:
    for is_write, expected in ((False, on_read), (True, on_write)):
        found = sql_fault_of(error, phase, backend, is_write=is_write)
        assert (found.retryable, found.is_outcome_unknown) == expected
        assert str(error.orig) in found.what
        assert "secret" not in str(found)
        assert found.retryable == ("`retries`" in str(found.hint))


def test_an_error_of_sundogs_own_stays_as_it_is() -> None:
    own = OperatorError("no such file")
    assert sql_fault_of(own, CONNECTING, "sqlite", is_write=True) is own


def test_a_value_the_driver_refuses_was_never_sent() -> None:
    found = sql_fault_of(OverflowError("too large"), EXECUTING, "sqlite", is_write=True)
    assert (found.retryable, found.is_outcome_unknown) == (False, False)


@pytest.mark.parametrize(
    ("sqlstate", "params", "hint"),
    [
        ("42P18", {"n": 1, "x": None}, "write cast(:x as type): the database cannot tell which type a parameter has"),
        ("42804", {"mood": "fine"}, "write cast(:mood as type): the database cannot tell which type a parameter has"),
        ("42804", {}, None),
        ("42P01", {"x": None}, None),
    ],
)
def test_a_type_that_cannot_be_told_gets_a_hint(sqlstate: str, params: dict[str, Any], hint: str | None) -> None:
    error = wrapped(ServerError(sqlstate))
    assert sql_fault_of(error, EXECUTING, "postgresql", is_write=False, params=params).hint == hint


def test_a_value_that_the_driver_cannot_hold_gets_a_hint() -> None:
    error = DataError("select", {}, Exception("out of range"))
    assert "cast it to text" in str(sql_fault_of(error, EXECUTING, "postgresql", is_write=False))


def test_integrity_errors_are_final() -> None:
    error = IntegrityError("insert", {}, sqlite_error(2067))
    assert not sql_fault_of(error, EXECUTING, "sqlite", is_write=True).retryable


@pytest.mark.parametrize(
    ("backend", "text"),
    [
        ("postgresql", "connection failed: FATAL:  sorry, too many clients already"),
        ("postgresql", "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute"),
        ("mysql", "(1040, 'Too many connections')"),
    ],
)
def test_a_server_without_connections_is_asked_again_with_the_remedy(backend: str, text: str) -> None:
    fault = sql_fault_of(wrapped(Exception(text)), CONNECTING, backend, is_write=True)
    assert (fault.retryable, fault.is_outcome_unknown) == (True, False)
    assert "a smaller `max_concurrency` in the flow's `limits` takes fewer connections" in str(fault.hint)
