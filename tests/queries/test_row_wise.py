"""Row-wise queries: the phrases for those that wait, and the law q(A + B) = q(A) + q(B) for those that do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st

from sundog.queries.order import Keyed, with_keys
from sundog.queries.parsed import parse_query
from sundog.queries.row_wise import why_not_row_wise
from tests.queries.generated import (
    EXAMPLES,
    ROWS,
    Database,
    Row,
    Rows,
    other_queries,
    parts_of,
    row_wise_queries,
    try_examples,
)

NOT_LED_BACK = "its rows cannot be led back to rows of their source"
BLOCKING = ("HASH_GROUP_BY", "WINDOW", "ORDER_BY", "TOP_N", "DISTINCT", "LIMIT", "AGGREGATE")


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    database = Database()
    yield database
    database.connection.close()


@pytest.mark.parametrize(
    ("sql", "phrase"),
    [
        ("select id, upper(n) as u from e where k > 1", None),
        ("select * from e", None),
        ("from e select id", None),
        ("select e.id, u.v from e, unnest(e.l) as u(v)", None),
        ("select id, unnest(l) as v from e", None),
        ("select e.id, b.m from e left join b on e.k = b.k", None),
        ("select id from e union all select k from e", None),
        ("select id, from e -- a comment", None),
        ("select id, e.rowid as r from e", "it numbers the rows of a source"),
        ("select n, count(*) as c from e group by n", "it groups its rows"),
        ("select max(id) as m from e", "it groups its rows"),
        ("select n from e having true", "it groups its rows"),
        ("select distinct n from e", "it takes distinct rows"),
        ("select id from e order by id", "it orders its rows"),
        ("select id from e union all select k from e order by 1", "it orders its rows"),
        ("select id from e limit 3", "it limits its rows"),
        ("select id from e offset 3", "it limits its rows"),
        ("select id, row_number() over () as r from e", "it has a window"),
        ("select id from e qualify rank() over (order by k) = 1", "it has a window"),
        ("select id from e using sample 3", "it takes a sample"),
        ("select id from e tablesample 3%", "it takes a sample"),
        ("with t as (select 1 as x) select id from e", "it has parts of its own (with)"),
        ("select id from e where k in (select k from b)", "it has a query inside"),
        ("select t.id from (select id from e) as t", "it has a query inside"),
        ("select e.id from b join e on b.k = e.k", "'e' does not stand first behind its from"),
        ("select id from e union all select k from b", "'e' does not stand first behind its from"),
        ("select b.k from b", "'e' does not stand first behind its from"),
        ("select a.id from e as a, e as z", "it reads 'e' twice"),
        ("select e.id from e join d on d.k = e.k", "it joins with 'd', whose rows are not all there"),
        ("select e.id from e right join b on b.k = e.k", "it has a join of the kind 'right'"),
        ("select e.id from e full join b on b.k = e.k", "it has a join of the kind 'full'"),
        ("select e.id from e semi join b using (k)", "it has a join of the kind 'semi'"),
        ("select e.id from e anti join b using (k)", "it has a join of the kind 'anti'"),
        ("select e.id from e asof join b on e.k >= b.k", "it has a join of the kind 'asof'"),
        ("select e.id from e positional join b", "it has a join of the kind 'positional'"),
        ("select e.id from e natural join b", "it has a join of the kind 'natural'"),
        ("select e.id from e, range(e.k) as r(x)", "it joins with what is no table"),
        ("select e.id from e join (b join c on b.k = c.id) on true", "it has a query inside"),
        ("select id from e union select k from e", "it unites two sets without doubles"),
        ("select id from e except select k from e", "it takes one set out of another"),
        ("select id from e intersect select k from e", "it takes what two sets share"),
        ("select id from e union all by name select id from e", "its branches are united by name"),
        ("select columns('i.*') from e", "its columns are chosen by a pattern"),
        ("select * from e unpivot (v for w in (k, id))", "it turns columns into rows"),
        ("select geomean(x) as g from e", "geomean() is not known to look at one row alone"),
        ("select n.first() as g from e", "first() is not known to look at one row alone"),
        ("select generate_subscripts(l, 1) as g from e", "generate_subscripts() is not known to look at one row alone"),
        ("select frobnicate(x) as g from e", "frobnicate() is not known to look at one row alone"),
        ("select random() as g from e", "random() is not known to look at one row alone"),
        ("from e", NOT_LED_BACK),
        ("(select id from e)", NOT_LED_BACK),
        ("select e.id, unnest(l) as v from e join b on true", NOT_LED_BACK),
        ("select u.* from e, unnest(l) as u(v)", NOT_LED_BACK),
        ("select x.v from e as x(id, rowid), unnest(l) as u(v)", NOT_LED_BACK),
    ],
)
def test_a_query_that_waits_says_why(sql: str, phrase: str | None) -> None:
    assert why_not_row_wise(parse_query(sql), "e", ["b", "c"]) == phrase


Identified = list[tuple[tuple[int, ...], Row]]


def identified(rows: list[Row], keyed: Keyed, first_row: int = 0) -> Identified:
    """Return the rows with their ids: the branch, the number of the source's row, the position in that."""
    seen: Counter[tuple[int, ...]] = Counter()
    found = []
    for row in rows:
        keys = row[len(row) - keyed.num_keys :]
        at = (keys[0], keys[1] + first_row) if keyed.has_branches else (keys[0] + first_row,)
        found.append(((*at, seen[at]), row[: len(row) - keyed.num_keys]))
        seen[at] += 1
    return found


CUTS = st.lists(st.integers(0, 20), max_size=3)


@EXAMPLES
def test_a_row_wise_query_of_parts_gives_the_rows_and_ids_of_the_whole(database: Database, num_examples: int) -> None:
    streamed: Counter[bool] = Counter()

    def obeys_the_law(sql: str, rows: Rows, cuts: list[int]) -> None:
        query = parse_query(sql)
        is_row_wise = why_not_row_wise(query, "e", ["b", "c"]) is None
        streamed[is_row_wise] += 1
        if not is_row_wise:
            return
        keyed = with_keys(query)
        database.fill_all(rows)
        whole = identified(database.rows(keyed.sql), keyed)
        assert whole == sorted(whole, key=lambda one: one[0])
        assert Counter(repr(row) for _, row in whole) == Counter(map(repr, database.rows(query.sql)))
        found: Identified = []
        for start, part in parts_of(rows["e"], cuts):
            database.fill("e", part)
            found += identified(database.rows(keyed.sql), keyed, start)
        assert sorted(found, key=lambda one: one[0]) == whole

    try_examples(num_examples, obeys_the_law, row_wise_queries(), ROWS, CUTS)
    assert streamed[True] >= streamed[False], "the law is tried on half of the queries at least"


@EXAMPLES
def test_duckdb_runs_row_wise_queries_with_streaming_operators_only(database: Database, num_examples: int) -> None:
    """An unnested list in `from` is left out: DuckDB groups its equal lists, which changes no row."""
    assert '"HASH_GROUP_BY"' in database.plan("select n, count(*) from e group by n")

    def streams(sql: str) -> None:
        if "unnest(" not in sql and why_not_row_wise(parse_query(sql), "e", ["b", "c"]) is None:
            plan = database.plan(sql)
            assert [name for name in BLOCKING if f'"{name}"' in plan or f"{name} " in plan] == []

    try_examples(num_examples, streams, row_wise_queries())


@EXAMPLES
def test_no_other_query_is_taken_for_a_row_wise_one(num_examples: int) -> None:
    def waits(sql: str) -> None:
        assert why_not_row_wise(parse_query(sql), "e", ["b", "c"]) is not None

    try_examples(num_examples, waits, other_queries())
