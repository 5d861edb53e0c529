"""A SQL step with rows, types and databases' habits of all kinds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sundog.errors import FlowError, OperatorError
from sundog.operators.base import Inspection
from sundog.operators.sql.operator import WRITE_RETRIES, SQLOperator
from sundog.operators.sql.text import marked
from sundog.secrets import Secrets
from tests.operators.conformance import Context
from tests.operators.shop import fault, run, spec


@pytest.mark.parametrize("order", [(None, [1], [1, 2], []), ([], [1, 2], [1], None)])
def test_what_a_list_gives_depends_on_no_other_row(folder: Path, order: tuple[Any, ...]) -> None:
    step = spec("select name from item where id in :ids order by id", params={"ids": "{{ row.ids }}"})
    expected = {"[1]": ["tea"], "[1, 2]": ["tea", "milk"], "[]": []}

    async def all_rows() -> None:
        operator = SQLOperator(folder)
        for ids in order:
            if ids is None:
                with pytest.raises(OperatorError, match="the parameter 'ids' is null, and after `in` stands a list"):
                    operator.bind(step, {"row": {"ids": ids}}, {})
                continue
            found = await operator.run(operator.bind(step, {"row": {"ids": ids}}, {}), Context())
            assert [row["name"] for row in found.value] == expected[str(ids)]
        await operator.close()

    asyncio.run(all_rows())


@pytest.mark.parametrize("order", [(1, [1, 2]), ([1, 2], 1)])
def test_a_list_and_a_value_in_one_place_are_two_statements(folder: Path, order: tuple[Any, ...]) -> None:
    """Here each is valid SQL, which SQLAlchemy's cache took for one and the same."""
    step = spec(
        "select count(*) as n from item where id in (select 1 union select 2) and 2 >= :n", params={"n": "{{ n }}"}
    )

    async def both() -> list[Any]:
        operator = SQLOperator(folder)
        found = []
        for n in order:
            try:
                found.append((await operator.run(operator.bind(step, {"n": n}, {}), Context())).value)
            except OperatorError as error:
                found.append(error.what.partition("\n")[0])
        await operator.close()
        return found

    found = dict(zip(map(str, order), asyncio.run(both()), strict=True))
    assert found["1"] == [{"n": 2}]
    assert "row value misused" in found["[1, 2]"]


def test_a_list_that_stands_elsewhere_is_told_where_it_belongs(folder: Path) -> None:
    error = fault(folder, spec("select * from item where id in (:ids)", params={"ids": "{{ [1, 2] }}"}))
    assert error.hint == "a list stands after `in`, and brings its brackets along: in :ids"


@pytest.mark.parametrize(
    ("query", "row"),
    [
        ("select ':p' as x, :p as y", {"x": ":p", "y": 5}),
        ("select 'it''s :p' as x, :p as y -- and not :q", {"x": "it's :p", "y": 5}),
        ("select /* not :q, nor in :p */ :p as y", {"y": 5}),
        ('select 1 as "a:b", :p as y', {"a:b": 1, "y": 5}),
        ("""select '{"n":1}' as x, '10:30' as t, :p as y""", {"x": '{"n":1}', "t": "10:30", "y": 5}),
        (r"select 'a\:p' as x, :p as y", {"x": "a:p", "y": 5}),
        ("select :p as y; -- that was all", {"y": 5}),
    ],
)
def test_a_parameter_stands_in_no_literal_name_or_comment(folder: Path, query: str, row: dict[str, Any]) -> None:
    step = spec(query, params={"p": "{{ 5 }}"})
    operator = SQLOperator(folder)
    operator.check(step, {})
    assert asyncio.run(operator.inspect(step, Inspection({}, Secrets({}), timeout_s=10))) == []
    assert run(folder, step) == [row]


@pytest.mark.parametrize(
    ("backend", "query", "text"),
    [
        (
            "postgresql",
            "select $$ :q $$, E'\\':q', :p::text, a[1:2]",
            "select $$ \\:q $$, E'\\'\\:q', :p::text, a[1:2]",
        ),
        ("postgresql", "select x::date, U&'d:q'", "select x::date, U&'d\\:q'"),
        ("mysql", "select `a:b`, :p # :q", "select `a\\:b`, :p # \\:q"),
        ("oracle", "select 'unclosed :q", "select 'unclosed :q"),
    ],
)
def test_colons_of_other_databases(backend: str, query: str, text: str) -> None:
    assert marked(query, backend) == text


def test_a_number_that_json_does_not_know_is_an_error(folder: Path) -> None:
    error = fault(folder, spec("select 9e999 as x"))
    assert error.what == "the column 'x' has no JSON form: the value is infinity, which is no JSON number"
    assert error.hint == "cast it to text in the query"


def test_bytes_are_base64_of_the_standard_alphabet(folder: Path) -> None:
    assert run(folder, spec("select x'fbff' as b")) == [{"b": "+/8="}]


def test_the_file_of_a_database_is_known(folder: Path) -> None:
    traits = SQLOperator(folder).traits
    assert traits(spec("select 1")).files == ("shop.db",)
    assert traits(spec("delete from item")).files == ("shop.db",)
    assert traits(spec("select 1", "postgresql+psycopg://u@h/db")).files == ()


def test_a_write_is_tried_again_where_it_is_known_not_to_have_happened(folder: Path) -> None:
    assert SQLOperator(folder).traits(spec("delete from item")).retries == WRITE_RETRIES


@pytest.mark.parametrize(
    ("url", "what", "hint"),
    [
        ("postgres://u@h/db", "databases of kind 'postgres'", "write postgresql+psycopg:// instead"),
        ("snowflake://u@h/db", "databases of kind 'snowflake'", "pip install snowflake-sqlalchemy"),
        ("nonsense://u@h/db", "databases of kind 'nonsense'", "correct the name before ://"),
        ("postgresql+pg8000://u@h/db", "driver 'pg8000' is not installed", "write postgresql+psycopg://, whose driver"),
        ("postgresql+psycopg2://u@h/db", "driver 'psycopg2' is not installed", "pip install 'psycopg2-binary'"),
        ("mysql://u@h/db", "driver 'MySQLdb' is not installed", "pip install 'mysqlclient'"),
    ],
)
def test_a_driver_that_is_not_there_gets_the_command_that_installs_it(
    folder: Path, url: str, what: str, hint: str
) -> None:
    with pytest.raises(FlowError) as caught:
        SQLOperator(folder).check(spec("select 1", url), {})
    assert what in caught.value.what
    assert hint in str(caught.value.hint)
