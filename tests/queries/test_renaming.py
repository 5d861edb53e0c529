"""Relations under other names: the text that reads them, and queries that say the same of equal ones."""

from __future__ import annotations

import pytest

from sundog.queries.parsed import parse_query
from sundog.queries.renaming import says_the_same, with_relations

SCHEMA = {"a": ["x", "y"], "b": ["x", "y"], "t": ["x", "q"]}


@pytest.mark.parametrize(
    ("sql", "renamed"),
    [
        ("select x from b", 'select x from "a" as "b"'),
        ("select c.x from b c -- twice\n, b as d", 'select c.x from "a" c -- twice\n, "a" as d'),
        ('select b.x from "b" join t using (x)', 'select b.x from "a" as "b" join t using (x)'),
        ("select x from t where exists (from b)", 'select x from t where exists (from "a" as "b")'),
        ("select b.x from a join b using (x)", 'select b.x from a join "a" as "b" using (x)'),
        ("with b as (select 1 as x) select x from b", "with b as (select 1 as x) select x from b"),
        # There the new name means something else.
        ("with a as (select 1 as x) select b.x from b", None),
    ],
)
def test_a_relation_gives_way_to_another(sql: str, renamed: str | None) -> None:
    found = with_relations(parse_query(sql), {"b": "a"})
    assert (None if found is None else found.sql) == renamed


@pytest.mark.parametrize(
    ("sql", "other"),
    [
        ("select b.x, count(*) as n from b group by b.x", "SELECT a.x, count(*) AS n\nFROM a GROUP BY a.x -- same"),
        ('select "b".x from "b"', "select a.x from a"),
        ("select b.* from b where x in (select q from t)", "select a.* from a where x in (select q from t)"),
        ("select c.x from b as c", "select c.x from a as c"),
        ("select x from t", "select x from t"),
    ],
)
def test_queries_that_say_the_same(sql: str, other: str) -> None:
    assert says_the_same(parse_query(sql), parse_query(other), SCHEMA)


@pytest.mark.parametrize(
    ("sql", "other"),
    [
        ("select x from b where x = 'A'", "select x from a where x = 'a'"),
        ("select x from b where x = $A", "select x from a where x = $a"),
        ("select b.x from b join t using (x)", "select t.x from a join t using (x)"),
        # Each reads the other's in the other place.
        ("select b.x from b join a using (x)", "select a.x from a join b using (x)"),
        # A column that the relation does not have may be a part of a column called like it.
        ("select b.z from b", "select a.z from a"),
        # The name before the column is another table's there.
        ("select a.x from b as a, t", "select a.x from a, t"),
        ("select x from b, t", "select x from a"),
    ],
)
def test_queries_that_may_say_something_else(sql: str, other: str) -> None:
    assert not says_the_same(parse_query(sql), parse_query(other), SCHEMA)
