"""SQL steps on a real PostgreSQL server: what SQLite cannot show."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from sundog.errors import OperatorError
from sundog.operators.base import Inspection, Outcome
from sundog.operators.sql import inspection as sql_inspection
from sundog.operators.sql.database import Database, Statement
from sundog.operators.sql.operator import SQLOperator
from sundog.operators.sql.spec import SQLSpec
from sundog.secrets import Secrets
from tests.operators.calls import fault_of_step, run_step
from tests.operators.conformance import Context
from tests.operators.lookups import compare

SERVER_URL = os.environ.get("SUNDOG_TEST_POSTGRES_URL")
pytestmark = pytest.mark.skipif(SERVER_URL is None, reason="SUNDOG_TEST_POSTGRES_URL names no PostgreSQL server")


@pytest.fixture
def alone() -> Iterator[None]:
    """Processes that test side by side have one server."""
    assert SERVER_URL is not None
    engine = create_engine(SERVER_URL)
    with engine.connect() as connection:
        connection.execute(text("select pg_advisory_lock(1)"))
        yield
    engine.dispose()


@pytest.fixture
def database(alone: None) -> Iterator[Database]:
    assert SERVER_URL is not None
    engine = create_engine(SERVER_URL)
    with engine.begin() as connection:
        connection.execute(text("drop table if exists sundog_test"))
        connection.execute(text("drop sequence if exists sundog_test_numbers"))
        connection.execute(text("create sequence sundog_test_numbers"))
        connection.execute(text("create table sundog_test (id int primary key, price numeric, day date, tags text[])"))
        connection.execute(text("insert into sundog_test values (1, 2.50, '2020-01-31', '{a,b}')"))
    opened = Database(make_url(SERVER_URL), Path(), max_connections=8)
    yield opened
    opened.close()
    with engine.begin() as connection:
        connection.execute(text("drop table sundog_test"))
        connection.execute(text("drop sequence sundog_test_numbers"))
    engine.dispose()


def execute(database: Database, query: str, *, is_write: bool = False, timeout_s: float = 10, **params: Any) -> Any:
    statement = Statement(text(query), params, is_write, max_rows=100)
    return asyncio.run(database.execute(statement, timeout_s=timeout_s))


def fault(database: Database, query: str, **options: Any) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        execute(database, query, **options)
    return caught.value


def num_rows(database: Database) -> int:
    return int(execute(database, "select count(*) as n from sundog_test")[0]["n"])


def test_values_become_json(database: Database) -> None:
    found = execute(database, "select * from sundog_test where id = :id", id="1")
    assert found == [{"id": 1, "price": "2.50", "day": "2020-01-31", "tags": ["a", "b"]}]


def test_values_that_python_does_not_know_stay_as_they_are_written(database: Database) -> None:
    query = (
        "select interval '1 mon' as m, interval '-1 year 2 mons' as y, array[interval '1 mon'] as ms,"
        " date 'infinity' as d, date '0044-03-15 BC' as bc, timestamp '12000-01-01' as far, time '24:00' as end_of_day,"
        " array[date '-infinity', date '2020-01-31'] as days, timestamptz '2020-01-31 12:00+02' as known,"
        " to_jsonb(12345678901234567890.123) as j, cast(:j as json) as tree, numeric '1.10' as n"
    )
    (row,) = execute(database, query, j='{"a": [1.10, 0.1, 1e400, 12345678901234567890]}')
    assert row == {
        "m": "P1M",
        "y": "P-10M",
        "ms": ["P1M"],
        "d": "infinity",
        "bc": "0044-03-15 BC",
        "far": "12000-01-01 00:00:00",
        "end_of_day": "24:00:00",
        "days": ["-infinity", "2020-01-31"],
        "known": row["known"],
        "j": "12345678901234567890.123",
        "tree": {"a": [1.1, 0.1, "1E+400", 12345678901234567890]},
        "n": "1.10",
    }
    assert row["known"].startswith("2020-01-31T")


@pytest.mark.parametrize("value", ["float8 'NaN'", "float8 'Infinity'", "numeric 'NaN'", "array[float8 '-Infinity']"])
def test_a_number_that_json_does_not_know_is_an_error_that_names_it(database: Database, value: str) -> None:
    error = fault(database, f"select {value} as x")
    assert "the column 'x' has no JSON form" in error.what
    assert error.hint == "cast it to text in the query"
    assert execute(database, f"select cast({value} as text) as x")


def test_equal_mistakes_are_told_alike(database: Database) -> None:
    found = [fault(database, "select nosuch from sundog_test").what for _ in range(2)]
    assert found == ['postgresql: column "nosuch" does not exist'] * 2
    assert "LINE 2:  nosuch" in fault(database, "select 1 +\n nosuch").what
    assert "No operator matches" in fault(database, "select 1 where 'a'::name = 1").what


def test_a_generated_statement_may_name_types_and_use_json(database: Database) -> None:
    assert SERVER_URL is not None
    statement = "select 'sundog_test'::regclass::text as t, '{\"a\": 1}'::jsonb ? 'a' as j, '50%' as p"
    step = SQLSpec.model_validate({"database": SERVER_URL, "generated": statement})
    assert run_step(SQLOperator(Path()), step, None, None) == [{"t": "sundog_test", "j": True, "p": "50%"}]
    long = SQLSpec.model_validate({"database": SERVER_URL, "generated": "select repeat('x', 11000000) as a"})
    assert fault_of_step(SQLOperator(Path()), long, None).what == "the query gave more than 10,000,000 bytes"


def test_a_null_without_a_type_gets_the_hint(database: Database) -> None:
    error = fault(database, "select id from sundog_test where (:x is null or id = :x)", x=None)
    assert error.hint is not None
    assert "cast(:x as type)" in error.hint
    assert execute(database, "select id from sundog_test where cast(:x as int) is null", x=None) == [{"id": 1}]


def test_writers_that_roll_each_other_back_are_known_not_to_have_acted(database: Database) -> None:
    assert SERVER_URL is not None
    serializable = make_url(SERVER_URL).update_query_dict({"options": "-cdefault_transaction_isolation=serializable"})
    other = Database(serializable, Path(), max_connections=8)

    async def both() -> list[Any]:
        query = text("with w as (select pg_sleep(0.2)) update sundog_test set price = price + 1 from w where id = 1")
        statement = Statement(query, {}, is_write=True, max_rows=1)
        return await asyncio.gather(*(other.execute(statement, timeout_s=10) for _ in range(2)), return_exceptions=True)

    first, second = sorted(asyncio.run(both()), key=lambda found: isinstance(found, Exception))
    assert first == [{"num_rows": 1}]
    assert isinstance(second, OperatorError)
    assert (second.retryable, second.is_outcome_unknown) == (True, False)
    other.close()


def found_by_inspection(query: str, **fields: Any) -> list[tuple[str, bool, bool]]:
    spec = SQLSpec.model_validate({"database": SERVER_URL, "query": query, **fields})
    inspection = Inspection({}, Secrets({}), timeout_s=10)
    findings = asyncio.run(SQLOperator(Path()).inspect(spec, inspection))
    return [(one.what, one.is_fatal, one.is_of_state) for one in findings]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("select id from sundog_test where id = :x", []),
        ("select id from sundog_test where id in :x", []),
        ("select id from sundog_test where (:x is null or id = :x)", []),
        ("insert into sundog_test values (:x)", []),
        ("create table sundog_new (x int)", []),
        ("select :x", []),
        ("selct id frm sundog_test", [('postgresql: syntax error at or near "selct"', True, False)]),
        ("select id from sundog_tst", [('postgresql: relation "sundog_tst" does not exist', True, True)]),
        ("update sundog_test set prize = :x", [("postgresql: column", True, True)]),
        ("do $$ begin perform 1; end $$", []),
    ],
)
def test_the_server_looks_at_a_statement_without_running_it(
    database: Database, query: str, found: list[tuple[str, bool, bool]]
) -> None:
    asked = found_by_inspection(query)
    assert [one[1:] for one in asked] == [one[1:] for one in found]
    assert all(one[0].startswith(other[0]) for one, other in zip(asked, found, strict=True))
    assert num_rows(database) == 1
    assert execute(database, "select to_regclass('sundog_new') as t") == [{"t": None}]


def test_a_table_that_somebody_has_locked_holds_no_look_up(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SERVER_URL is not None
    monkeypatch.setattr(sql_inspection, "CONNECT_TIMEOUT_S", 1)
    other = create_engine(SERVER_URL)
    with other.connect() as connection:
        connection.execute(text("lock table sundog_test in access exclusive mode"))
        found = found_by_inspection("select id from sundog_test")
        error = fault(database, "select id from sundog_test", timeout_s=0.5)
    other.dispose()
    assert found == [("postgresql: canceling statement due to statement timeout", False, False)]
    assert "no answer within 0.5 s; the statement was stopped" in error.what


def test_a_connection_that_cannot_be_tidied_up_prints_nothing(
    database: Database, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as it is outside of pytest
    fault(database, "copy sundog_test to stdout", is_write=True)
    assert capfd.readouterr().err == ""


def test_a_server_that_cannot_be_reached_is_found() -> None:
    assert SERVER_URL is not None
    absent = make_url(SERVER_URL).set(host="127.0.0.1", port=1).render_as_string()
    spec = SQLSpec(database=absent, query="selct 1")
    findings = asyncio.run(SQLOperator(Path()).inspect(spec, Inspection({}, Secrets({}), timeout_s=10)))
    assert [one.is_of_state for one in findings] == [False, True]
    assert "could not be parsed (line 1, column" in findings[0].what
    assert [one.is_fatal for one in findings] == [False, True]
    assert findings[1].hint == "is it running? 127.0.0.1:1"


def test_a_write_is_committed_and_counted(database: Database) -> None:
    assert execute(database, "insert into sundog_test values (:id)", is_write=True, id=2) == [{"num_rows": 1}]
    assert num_rows(database) == 2


def test_a_read_cannot_write(database: Database) -> None:
    assert "read-only transaction" in fault(database, "select nextval('sundog_test_numbers')").what


@pytest.mark.parametrize("is_write", [False, True])
def test_a_statement_past_its_time_is_stopped(database: Database, is_write: bool) -> None:
    error = fault(database, "select pg_sleep(30)", is_write=is_write, timeout_s=0.2)
    assert (error.retryable, error.is_outcome_unknown) == (True, False)
    running = execute(
        database, "select count(*) as n from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'"
    )
    assert running == [{"n": 0}]


def test_a_lost_connection_may_be_tried_again(database: Database) -> None:
    query = (
        "with gone as (delete from sundog_test returning id) select pg_terminate_backend(pg_backend_pid()) from gone"
    )
    error = fault(database, query, is_write=True)
    assert (error.retryable, error.is_outcome_unknown) == (True, False)
    assert num_rows(database) == 1


def test_a_refused_write_is_known_and_final(database: Database) -> None:
    error = fault(database, "insert into sundog_test values (1)", is_write=True)
    assert "duplicate key" in error.what
    assert (error.retryable, error.is_outcome_unknown) == (False, False)


def test_a_server_that_is_not_there() -> None:
    assert SERVER_URL is not None
    absent = Database(make_url(SERVER_URL).set(host="127.0.0.1", port=1), Path(), max_connections=1)
    error = fault(absent, "delete from sundog_test", is_write=True)
    assert (error.retryable, error.is_outcome_unknown) == (True, False)
    absent.close()


@pytest.fixture(scope="module")
def tables() -> Iterator[SQLOperator]:
    """A schema whose tables hold keys of many types, and an operator that looks there first."""
    assert SERVER_URL is not None
    engine = create_engine(SERVER_URL)
    lock = engine.connect()
    lock.execute(text("select pg_advisory_lock(2)"))
    with engine.begin() as connection:
        for statement in TABLES.split(";"):
            connection.execute(text(statement))
    opened = SQLOperator(Path())
    yield opened
    asyncio.run(opened.close())
    with engine.begin() as connection:
        connection.execute(text("drop schema sundog_keys cascade"))
        connection.execute(text("alter role current_user reset search_path"))
    lock.close()
    engine.dispose()


TABLES = """
drop schema if exists sundog_keys cascade;
create schema sundog_keys;
set search_path = sundog_keys;
create collation loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
create table "Ints" (k int primary key, n int);
insert into "Ints" values (1, 10), (5, 50), (-3, 30), (16777216, 70);
create table texts (k varchar(9), n int);
insert into texts values ('a', 1), ('A', 2), ('a ', 3), ('5', 4), ('twice', 5), ('twice', 6);
create table reals (k real, n int);
insert into reals values (5, 1), (16777216, 2);
create table numerics (k numeric, n int);
insert into numerics values (5, 1), (5.0, 2), (5.5, 3);
create table padded (k char(3), n int);
insert into padded values ('a', 1), ('abc', 2);
create table loosely (k text collate loose, n int);
insert into loosely values ('a', 1), ('B', 2);
create table days (k date, n int);
insert into days values ('2020-01-31', 1);
create table parts (k int, n int) partition by list (k);
create table part_5 partition of parts for values in (5);
insert into parts values (5, 1);
create view seen as select * from texts;
alter role current_user set search_path = sundog_keys
"""
KEYS = [1, 5, -3, 16777217, 99, None, True, 5.0, 2**40, "5", "1", "05", "a", "A", "a ", "abc", "B", "b", "2020-01-31"]
KEYS += ["twice", "nothing", "a\0", "x" * 12]


ALONE = ("reals", "numerics", "padded", "loosely", "days", "parts", "seen")


@pytest.mark.parametrize("table", ['"Ints"', "texts", *ALONE])
def test_a_gathered_answer_is_the_one_alone(tables: SQLOperator, table: str) -> None:
    assert SERVER_URL is not None
    num_answers = 0
    words = ["a", "A", "a ", "twice", "nothing", "abc"]
    for some in (KEYS, KEYS[:5], ["5", "1", "77"], words, ["b", "nothing"], [5, 16777217], [1, 2**40]):
        num_answers += compare(tables, SERVER_URL, f"select k, n from {table} where k = :id order by n", some)
    assert (num_answers == 0) == (table in ALONE)


def test_a_pool_has_as_many_connections_as_it_takes_calls(alone: None) -> None:
    operator = SQLOperator(Path())
    query = "select pg_backend_pid() as id, cast(pg_sleep(0.02) as text) as slept, cast(:n as int) as n"
    calls = [
        operator.bind(SQLSpec.model_validate({"database": SERVER_URL, "query": query, "params": {"n": n}}), {}, {})
        for n in range(20)
    ]

    async def ask() -> list[Outcome]:
        try:
            return await asyncio.gather(*(operator.run(call, Context(max_concurrency=5)) for call in calls))
        finally:
            await operator.close()

    assert len({outcome.value[0]["id"] for outcome in asyncio.run(ask())}) == 5
