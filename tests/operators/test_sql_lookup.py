"""The look-ups that may be gathered; a gathered answer is the one that the look-up gives alone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sundog.operators.sql.lookup import Lookup, lookup_of
from sundog.operators.sql.operator import SQLOperator
from tests.operators.lookups import compare, spec

URL = "sqlite:///keys.db"
ID = frozenset({"id"})
GATHERED = {
    "select body from docs where id = :id": "select id as sundog_key, body from docs where id in :id",
    "SELECT * FROM docs d WHERE (d.id=:id) AND x > :lo order by 1 -- c\n": (
        "SELECT d.id as sundog_key, * FROM docs d WHERE (d.id in :id) AND x > :lo order by 1 -- c\n"
    ),
    'select "é" u from "T" where "Id" == :id': 'select "Id" as sundog_key, "é" u from "T" where "Id" in :id',
    "/* é */ select a.x from a join b on a.id=b.a where y = 1 and b.id = :id": (
        "/* é */ select b.id as sundog_key, a.x from a join b on a.id=b.a where y = 1 and b.id in :id"
    ),
    "select upper(x) n, case when y then 1 end c from t where id = :id and y is not null": (
        "select id as sundog_key, upper(x) n, case when y then 1 end c from t where id in :id and y is not null"
    ),
}
ALONE = (
    "select count(*) from t where id = :id",
    "select total(x) from t where id = :id",
    "select json_group_array(x) from t where id = :id",
    "select max(x) over () from t where id = :id",
    "select distinct x from t where id = :id",
    "select x from t where id = :id limit 1",
    "select x from t where id = :id group by x",
    "select x from t where id = :id union select 1",
    "with t as (select 1) select x from t where id = :id",
    "select x from (select * from t) t where id = :id",
    "select (select count(t.x)) from t where id = :id",
    "select x from t where x in (select y from u where id = :id)",
    "select x from t where id = :id or y = 1",
    "select x from t where not (id = :id)",
    "select x from t where id is :id",
    "select x from t where :id = id",
    "select x from t where lower(id) = :id",
    "select x from t where id + 0 = :id",
    "select x from t where id collate nocase = :id",
    "select x from t where id = :id and y = :id",
    "select :id as k, x from t where id = :id",
    "select ':id' as k, x from t where id = :id",
    "select x from a, b where id = :id",
    "select x from t a join t a where a.id = :id",
    "select x from s.t where id = :id",
    "select x from t left join u on u.id = :id",
    "select x from json_each(:id)",
    "select x from t, json_each(t.y) where t.id = :id",
    "select random() from t where id = :id",
    "delete from t where id = :id",
    "selec x from t where id = :id",
)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
@pytest.mark.parametrize("query", GATHERED)
def test_a_list_takes_the_place_of_the_key(query: str, backend: str) -> None:
    found = lookup_of(query, backend, ID)
    assert found is not None
    assert (found.param, found.query) == ("id", GATHERED[query])


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
@pytest.mark.parametrize("query", ALONE)
def test_what_is_not_certain_is_asked_alone(query: str, backend: str) -> None:
    assert lookup_of(query, backend, ID) is None


def test_one_parameter_varies_and_the_database_is_known() -> None:
    query = "select x from t where id = :id and a = :a"
    assert lookup_of(query, "sqlite", ID) is not None
    assert lookup_of(query, "sqlite", frozenset()) is None
    assert lookup_of(query, "sqlite", frozenset({"id", "a"})) is None
    assert lookup_of(query, "mysql", ID) is None
    assert lookup_of(query, "oracle", ID) is None


def test_postgres_folds_names_that_are_not_quoted() -> None:
    def names(query: str) -> tuple[str, str]:
        found = lookup_of(query, "postgresql", ID)
        assert isinstance(found, Lookup)
        return found.table, found.column

    assert names("select x from Docs where Id = :id") == ("Docs", "id")
    assert names('select x from "Docs" where "Id" = :id') == ('"Docs"', "Id")


VALUES = (None, 0, 1, 5, -3, 2**62, 5.0, 5.5, "5", "05", "5.0", " 5", "1e0", "a", "A", "a ", "é", "", "9" * 20, b"a")
TABLES = {
    "numbers": "k integer, n integer",
    "texts": "k text, n integer",
    "reals": "k real, n integer",
    "numerics": "k numeric, n integer",
    "anything": "k, n integer",
    "folded": "k text collate nocase, n integer",
    "trimmed": "k text collate rtrim, n integer",
    "single": "k text primary key, n integer",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables whose column `k` has every affinity and collation, with each value twice but for `single`."""
    folder = tmp_path_factory.mktemp("keys")
    with closing(sqlite3.connect(folder / "keys.db")) as connection:
        for table, columns in TABLES.items():
            connection.execute(f"create table {table} ({columns})")
            for number, value in enumerate(VALUES * 2):
                connection.execute(f"insert or ignore into {table} values (?, ?)", (value, number))
            connection.execute(f"create table once_{table} ({columns})")
        connection.execute("create view seen as select * from texts")
        connection.execute("create virtual table found using fts5(k)")
        connection.execute("insert into found values ('a'), ('b')")
        connection.commit()
    return folder


@pytest.fixture(scope="module")
def operator(folder: Path) -> Iterator[SQLOperator]:
    opened = SQLOperator(folder)
    yield opened
    asyncio.run(opened.close())


KEYS = [value for value in VALUES if not isinstance(value, bytes)] + [True, False, 2**70, "x'5'"]


@settings(max_examples=60, deadline=None)
@given(
    stored=st.lists(st.sampled_from(VALUES), max_size=8),
    keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=8),
    table=st.sampled_from(sorted(TABLES)),
)
def test_a_gathered_answer_is_the_one_alone(
    operator: SQLOperator, folder: Path, stored: list[Any], keys: list[Any], table: str
) -> None:
    with closing(sqlite3.connect(folder / "keys.db")) as connection:
        connection.execute(f"delete from once_{table}")
        for number, value in enumerate(stored):
            connection.execute(f"insert or ignore into once_{table} values (?, ?)", (value, number))
        connection.commit()
    compare(operator, URL, f"select k, typeof(k) as t, n from once_{table} where k = :id", keys)
    compare(operator, URL, f"select n from once_{table} where k = :id order by n desc", keys)


def test_keys_with_one_row_or_none_are_answered(operator: SQLOperator) -> None:
    assert compare(operator, URL, "select n from single where k = :id", ["a", "é", "nothing", "a"]) == 4
    assert compare(operator, URL, "select n from single where k = :id", [5, "5", -3, 77]) == 4


def test_numbers_may_be_spelled_as_text(operator: SQLOperator, folder: Path) -> None:
    with closing(sqlite3.connect(folder / "keys.db")) as connection:
        connection.execute("create table ids (k integer primary key, n integer)")
        connection.executemany("insert into ids values (?, ?)", [(1, 10), (22, 20), (2**63 - 1, 30)])
        connection.commit()
    query = "select n from ids where k = :id"
    assert compare(operator, URL, query, ["1", "22", "3", 1, 22]) == 5
    # Past what every database holds exactly, two texts may mean one number.
    assert compare(operator, URL, query, [str(2**63 - 1), f" {2**63 - 1}", f"0{2**63 - 1}"]) == 0


@pytest.mark.parametrize("table", ["folded", "trimmed", "seen", "found"])
def test_a_table_with_rules_of_its_own_is_asked_key_by_key(operator: SQLOperator, table: str) -> None:
    assert compare(operator, URL, f"select k from {table} where k = :id", ["nothing", "none"]) == 0


def test_keys_with_several_rows_are_left_alone(operator: SQLOperator) -> None:
    assert compare(operator, URL, "select n from texts where k = :id", ["a", "A", "nothing", "none"]) == 2


def test_keys_of_other_types_run_alone(operator: SQLOperator) -> None:
    step = spec(URL, "select n from texts where k = :id")
    alone: list[Any] = [None, True, 5.0, ["a"], 10**18]
    assert [operator.group_of(step, operator.bind(step, {"row": {"k": key}}, {})) for key in alone] == [None] * 5
