"""The defined order of a query's rows: the text that gives it, and that nothing but the rows decides it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import duckdb
import pytest
from hypothesis import strategies as st

from sundog.queries.order import with_keys
from sundog.queries.parsed import parse_query
from tests.queries.generated import EXAMPLES, ROWS, Database, Rows, other_queries, row_wise_queries, try_examples

OTHER_PLANS = "join_order, build_side_probe_side, filter_pushdown, unnest_rewriter, top_n"


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    database = Database()
    yield database
    database.connection.close()


def by_values(sql: str) -> str:
    return f"select * from (\n{sql}\n) as __rows order by all"


@pytest.mark.parametrize(
    ("sql", "keyed", "num_keys", "kind", "reads_values"),
    [
        ("select id from e where k > 1", 'select id, "e".rowid as __k0 from e where k > 1', 1, "source", False),
        ("select id, from e -- why\n", 'select id, "e".rowid as __k0 from e', 1, "source", False),
        ('select id -- why\nfrom e as "my e"',
         'select id, "my e".rowid as __k0 -- why\nfrom e as "my e"', 1, "source", False),
        ("from e select id where k > 1", 'from e select id, "e".rowid as __k0 where k > 1', 1, "source", False),
        ("select k is distinct from 2 as d from e limit 3",
         'select k is distinct from 2 as d, "e".rowid as __k0 from e limit 3', 1, "source", False),
        ("select *, u.v from e, unnest(l) as u(v)",
         'select * exclude (__p0), u.v, "e".rowid as __k0, "u".__p0 as __k1'
         ' from e, unnest(l) with ordinality as "u"("v", __p0) order by __k0 nulls first, __k1 nulls first ',
         2, "source", False),
        ("select unnest from e left join unnest(l) on true",
         'select unnest, "e".rowid as __k0, "unnest".__p0 as __k1'
         ' from e left join unnest(l) with ordinality as "unnest"("unnest", __p0) on true'
         ' order by __k0 nulls first, __k1 nulls first ', 2, "source", False),
        ("select e.id from e semi join b using (k)",
         'select e.id, "e".rowid as __k0 from e semi join b using (k) order by __k0 nulls first ', 1, "source", False),
        ("select id from e union all select k from b",
         'select id, 0 as __kb, "e".rowid as __k0 from e union all select k, 1 as __kb, "b".rowid as __k0 from b'
         ' order by __kb nulls first, __k0 nulls first ', 2, "source", False),
        ("select n, count(*) as c from e group by n",
         'select n, count(*) as c from e group by n order by min("e".rowid) nulls first ', 0, "source", False),
        ("select n, count(*) as c from e join b on true group by n",
         'select n, count(*) as c from e join b on true group by n'
         ' order by min("e".rowid) nulls first, min("b".rowid) nulls first, 1, 2 ', 0, "source", True),
        ("select n, k from e group by rollup(n, k)",
         'select n, k from e group by rollup(n, k) order by min("e".rowid) nulls first, 1, 2 ', 0, "source", True),
        ("select id, k from e order by k limit 3",
         'select id, k from e order by k, "e".rowid nulls first limit 3', 0, "query", False),
        ("select *, v from e, unnest(l) as u(v) order by k limit 3",
         'select * exclude (__p0), v from e, unnest(l) with ordinality as "u"("v", __p0)'
         ' order by k, "e".rowid nulls first, "u".__p0 nulls first limit 3', 0, "query", False),
        ("select n, max(k) as m from e group by n order by m",
         "select n, max(k) as m from e group by n order by m, 1, 2", 0, "query", True),
        ("select distinct * from e order by k limit 3", "select distinct * from e order by k, columns(*) limit 3", 0,
         "query", True),
        ("select id, unnest(l) as v from e order by k", "select id, unnest(l) as v from e order by k, 1, 2", 0,
         "query", True),
        ("select id from e order by all", "select id from e order by all", 0, "query", True),
        ("select id from e except select k from b order by 1 desc",
         "select id from e except select k from b order by 1 desc, 1", 0, "query", True),
        ("select distinct n from e", by_values("select distinct n from e"), 0, "values", True),
        ("select id from e union select k from b", by_values("select id from e union select k from b"), 0, "values",
         True),
        ("with t as (from e) select id from t", by_values("with t as (from e) select id from t"), 0, "values", True),
        ("select median_of(id) as m from e", by_values("select median_of(id) as m from e"), 0, "values", True),
    ],
)  # fmt: skip
def test_the_order_is_written_into_the_users_text(
    sql: str, keyed: str, num_keys: int, kind: str, reads_values: bool
) -> None:
    found = with_keys(parse_query(sql))
    assert (found.sql, found.num_keys, found.kind, found.reads_values) == (keyed, num_keys, kind, reads_values)


@EXAMPLES
def test_the_order_depends_on_the_rows_alone(database: Database, num_examples: int) -> None:
    def keeps_rows_and_order(sql: str, rows: Rows) -> None:
        database.fill_all(rows)
        keyed = with_keys(parse_query(sql))
        found = database.rows(keyed.sql)
        database.connection.execute(f"set disabled_optimizers = '{OTHER_PLANS}'")
        other = database.rows(keyed.sql)
        database.connection.execute("set disabled_optimizers = ''")
        assert other == found
        raw = database.rows(sql)
        assert len(raw) == len(found)
        if "limit" not in sql:
            outputs = [row[: len(row) - keyed.num_keys] for row in found]
            assert Counter(map(repr, outputs)) == Counter(map(repr, raw))

    try_examples(num_examples, keeps_rows_and_order, st.one_of(other_queries(), row_wise_queries()), ROWS)


@pytest.mark.parametrize(
    "sql",
    [
        "select e.id, u.v, b.m from e join b on e.k = b.k, unnest(e.l) as u(v)",
        "select e.id, b.m from e left join b on e.k = b.k and e.id % 2 = 0 where e.id in (select k from b)",
        "select m, count(*) as c from e join b on e.k = b.k group by m",
        "select m, e.k from e join b on e.k = b.k order by m limit 2000",
        "select e.id, sum(k) over (partition by k) as s from e",
        "select distinct k from e",
        "select e.id from e anti join b on b.k = e.id union all select k from b",
    ],
)
def test_the_order_is_that_of_one_thread(sql: str) -> None:
    """The tables are of several row groups' parts, so that four threads share the work."""
    connection = duckdb.connect()
    connection.execute(
        "create table e as select i as id, i % 97 as k, [i, 0, 1 - i] as l from range(6000) as t(i);"
        "create table b as select 96 - i % 97 as k, 'b' || (i % 50) as m from range(194) as t(i);"
    )
    text = with_keys(parse_query(sql)).sql
    found = []
    for threads in (1, 4):
        connection.execute(f"set threads = {threads}")
        found.append(connection.execute(text).fetchall())
    assert found[0]
    assert found[0] == found[1]
