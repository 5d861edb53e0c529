"""Distinct rows: which queries need only these, and the query that gives them, run in DuckDB."""

from __future__ import annotations

import duckdb
import pytest

from sundog.queries.distinct import distinct_rows, needs_distinct_rows_only
from sundog.queries.parsed import parse_query


@pytest.mark.parametrize(
    ("sql", "is_needed"),
    [
        ("select distinct a, lower(b) as b from t where a > 1 order by a", True),
        ("select distinct * from t", True),
        ("select a from t", False),
        ("select distinct on (a) a, b from t", False),
        ("select distinct count(*) from t", False),
        ("select distinct a, count(*) over () from t", False),
        ("select distinct t.a from t join t as u on t.a = u.b", False),
        ("select distinct a from t order by a limit 2", False),
        ("select distinct my_function(a) from t", False),
        ("select distinct unnest([a, b]) as v from t", False),
        ("select distinct a from (select a from t)", False),
        ("select distinct a from t where a in (select b from t)", False),
    ],
)
def test_a_query_of_distinct_rows_of_one_source_needs_each_row_once(sql: str, is_needed: bool) -> None:
    assert needs_distinct_rows_only(parse_query(sql)) is is_needed


@pytest.mark.parametrize(
    "sql",
    [
        "select a from t order by a limit 2",
        "select a, row_number() over (order by a) as n from t",
        "select a from t union all select b from t",
        "select my_function(a) as a from t",
        "with u as (select a from t) select a from u",
    ],
)
def test_rows_that_depend_on_others_keep_their_query(sql: str) -> None:
    assert distinct_rows(parse_query(sql), ["a"]) is None


def test_rows_that_a_prompt_shows_in_two_ways_stay_apart() -> None:
    connection = duckdb.connect()
    connection.execute(
        "create table t as select * from (values (0.0::double, 'x'), (-0.0::double, 'x'), (0.0, 'x')) v(a, b)"
    )
    found = distinct_rows(parse_query("select a, b, 1 as c from t"), ["a", "b"])
    assert found is not None
    assert distinct_rows(found, ["a", "b"]) is None
    assert sorted(map(str, connection.execute(found.sql).fetchall())) == ["(-0.0, 'x')", "(0.0, 'x')"]
