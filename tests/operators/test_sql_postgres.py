"""SQL steps on a real PostgreSQL server: what SQLite cannot show."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from sundog.errors import OperatorError
from sundog.operators.sql import SQLOperator
from sundog.operators.sql_database import Database, Statement
from tests.operators.lookups import compare

SERVER_URL = os.environ.get("SUNDOG_TEST_POSTGRES_URL")
pytestmark = pytest.mark.skipif(SERVER_URL is None, reason="SUNDOG_TEST_POSTGRES_URL names no PostgreSQL server")


@pytest.fixture
def database() -> Iterator[Database]:
    assert SERVER_URL is not None
    engine = create_engine(SERVER_URL)
    with engine.begin() as connection:
        connection.execute(text("drop table if exists sundog_test"))
        connection.execute(text("drop sequence if exists sundog_test_numbers"))
        connection.execute(text("create sequence sundog_test_numbers"))
        connection.execute(text("create table sundog_test (id int primary key, price numeric, day date, tags text[])"))
        connection.execute(text("insert into sundog_test values (1, 2.50, '2020-01-31', '{a,b}')"))
    opened = Database(make_url(SERVER_URL), Path())
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
    absent = Database(make_url(SERVER_URL).set(host="127.0.0.1", port=1), Path())
    error = fault(absent, "delete from sundog_test", is_write=True)
    assert (error.retryable, error.is_outcome_unknown) == (True, False)
    absent.close()


@pytest.fixture(scope="module")
def tables() -> Iterator[SQLOperator]:
    """A schema whose tables hold keys of many types, and an operator that looks there first."""
    assert SERVER_URL is not None
    engine = create_engine(SERVER_URL)
    with engine.begin() as connection:
        for statement in TABLES.split(";"):
            connection.execute(text(statement))
    opened = SQLOperator(Path())
    yield opened
    asyncio.run(opened.close())
    with engine.begin() as connection:
        connection.execute(text("drop schema sundog_keys cascade"))
        connection.execute(text("alter role current_user reset search_path"))
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
