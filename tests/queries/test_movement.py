"""Movements through queries: tables of before and after, and moved equals unmoved on DuckDB."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st

from sundog.queries.columns import Schema
from sundog.queries.movement import PulledFilter, PulledLimit, pull_filter, pull_limit
from sundog.queries.order import Keyed, with_keys
from sundog.queries.parsed import parse_query
from sundog.queries.removal import split_where, without_columns
from tests.queries.generated import EXAMPLES, ROWS, SCHEMAS, Database, Row, Rows, try_examples

SCHEMA: Schema = {name: [one.split()[0] for one in text.split(", ")] for name, text in SCHEMAS.items()}
SCHEMA = {**SCHEMA, "b": ["k", "m", "l2"]}


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    database = Database()
    yield database
    database.connection.close()


@pytest.mark.parametrize(
    ("sql", "read", "moved"),
    [
        ("select id as a, k + 1 as j, k from e where x > 1", "a k", [("e", "a=id k=k")]),
        ("select * from e", "k", [("e", "k=k")]),
        ("select e.id, m from e join b on e.k = b.k", "id", [("e", "id=id")]),
        ("select e.id, m from e join b on e.k = b.k", "m", [("b", "m=m")]),
        ("select e.id, m from e left join b on e.k = b.k", "id", [("e", "id=id")]),
        ("select e.id, m from e right join b on e.k = b.k", "m", [("b", "m=m")]),
        ("select e.id, u.v from e, unnest(l) as u(v)", "id", [("e", "id=id")]),
        ("select unnest(l) as v, id from e", "id", [("e", "id=id")]),
        ("select e.id from e semi join b using (k)", "id", [("e", "id=id")]),
        ("select n, count(*) as c from e group by n having count(*) > 1", "n", [("e", "n=n")]),
        ("select n as g, count(*) as c from e group by 1", "g", [("e", "g=n")]),
        ("select n as g, count(*) as c from e group by g", "g", [("e", "g=n")]),
        ("select n as g, count(*) as c from e group by all", "g", [("e", "g=n")]),
        ("select distinct n, k from e", "n", [("e", "n=n")]),
        ("select distinct on (n) n, k from e order by n, k", "n", [("e", "n=n")]),
        ("select id, n, sum(k) over (partition by n) as s from e", "n", [("e", "n=n")]),
        ("select id, n from e qualify row_number() over (partition by n order by k) = 1", "n", [("e", "n=n")]),
        ("select id from e order by id", "id", [("e", "id=id")]),
        ("select id from e where k in (select k from b)", "id", [("e", "id=id")]),
        ("select id as a from e union all select k from b", "a", [("e", "a=id"), ("b", "a=k")]),
        ("select id from e union all select id from e where k > 1", "id", [("e", "id=id")]),
        ("select k + 1 as j from e", "j", None),
        ("select e.id, m from e join b on e.k = b.k", "id m", None),
        ("select e.id, m from e left join b on e.k = b.k", "m", None),
        ("select e.id, m from e right join b on e.k = b.k", "id", None),
        ("select e.id, m from e full join b on e.k = b.k", "id", None),
        ("select k from e join b using (k)", "k", None),
        ("select e.id from e asof join b on e.k >= b.k", "id", None),
        ("select e.id, u.v from e, unnest(l) as u(v)", "v", None),
        ("select n, count(*) as c from e group by n", "c", None),
        ("select max(n) as n from e", "n", None),
        ("select n, count(*) as c from e group by rollup(n)", "n", None),
        ("select distinct on (n) n, k from e order by n, k", "k", None),
        ("select id, n, sum(k) over (partition by n) as s from e", "id", None),
        ("select id, n, sum(k) over w as s from e window w as (partition by n)", "n", None),
        ("select id, sum(k) over () as s from e", "id", None),
        ("select id from e limit 3", "id", None),
        ("select id from e order by id offset 3", "id", None),
        ("select id from e union select k from b", "id", None),
        ("select id from e union all select k from b limit 2", "id", None),
        ("select k from b union all select n from e group by rollup(n)", "k", None),
        ("select id from e union all select k from e", "id", None),
        ("select id from e union all select k + 1 from b", "id", None),
        ("select a.id from e as a, e as z", "id", None),
        ("select id from e where k in (select k from e)", "id", None),
        ("with t as (select * from e) select id from t", "id", None),
        ("select id from (select * from e) as t", "id", None),
    ],
)
def test_a_filter_moves_to_the_sources(sql: str, read: str, moved: list[tuple[str, str]] | None) -> None:
    found = pull_filter(parse_query(sql), frozenset(read.split()), SCHEMA)
    if moved is None:
        assert found is None
    else:
        pairs = [(name, dict(pair.split("=") for pair in columns.split())) for name, columns in moved]
        assert found == tuple(PulledFilter(name, columns) for name, columns in pairs)


@pytest.mark.parametrize(
    ("sql", "pulled"),
    [
        ("select id as a, k + 1 as j from e limit 3", PulledLimit("e", 3, ())),
        ("select id, n from e order by k desc, n limit 2", PulledLimit("e", 2, (("k", True), ("n", False)))),
        ("select k as id from e order by id limit 2", PulledLimit("e", 2, (("k", False),))),
        ("select k as id from e order by e.id limit 2", PulledLimit("e", 2, (("id", False),))),
        ("select n, id from e order by 2 limit 2", PulledLimit("e", 2, (("id", False),))),
        ("select * from e order by k limit 2", PulledLimit("e", 2, (("k", False),))),
        ("select id from e", None),
        ("select id from e order by k + 1 limit 2", None),
        ("select id from e order by all limit 2", None),
        ("select id from e order by k nulls first limit 2", None),
        ("select id from e where k > 1 limit 2", None),
        ("select id from e limit 2 offset 1", None),
        ("select id from e limit 10%", None),
        ("select id from e limit $n", None),
        ("select distinct id from e limit 2", None),
        ("select max(id) as m from e limit 2", None),
        ("select id, row_number() over (order by k) as r from e limit 2", None),
        ("select unnest(l) as v from e limit 2", None),
        ("select e.id from e, b limit 2", None),
        ("select geomean(x) as g from e limit 2", None),
        ("select id from e union all select k from b limit 2", None),
        ("select id from (select id from e) as t limit 2", None),
    ],
)
def test_a_limit_bounds_the_source(sql: str, pulled: PulledLimit | None) -> None:
    assert pull_limit(parse_query(sql), SCHEMA) == pulled


@pytest.mark.parametrize(
    ("sql", "rest", "conditions"),
    [
        ("select e.id from e join b on true where e.x > 1 and m = 'x' and e.id between 1 and 2 and (e.k = 1 or n = '')",
         "select e.id from e join b on true where m = 'x'",
         ["e.x > 1", "e.id between 1 and 2", "(e.k = 1 or n = '')"]),
        ("select id from e where k > 1", "select id from e", ["k > 1"]),
        ("select n from e where k > 1 or n = 'x' group by n", "select n from e  group by n", ["k > 1 or n = 'x'"]),
        ("select id from e where k + 1 > 1 and x is null limit 3", "select id from e where k + 1 > 1 limit 3",
         ["x is null"]),
        ("select id from e where case when k > 1 then true end and not (k = 2) -- why\n and n is distinct from 'x'",
         "select id from e where case when k > 1 then true end", ["not (k = 2)", "n is distinct from 'x'"]),
        ("select id from e where k = (select max(k) from b) and id in (1, 2)",
         "select id from e where k = (select max(k) from b)", ["id in (1, 2)"]),
        ("select id as k from e where k = 1 and e.k = 2", "select id as k from e where k = 1", ["e.k = 2"]),
        ("select e.id from b left join e on true where e.k = 1", None, []),
        ("select a.id from e as a, e as z where a.id = 1", None, []),
        ("select e.id from e, b where e.k = b.k", None, []),
        ("select id from e where len(n) > 1", None, []),
        ("select id from e where 1 = 1", None, []),
        ("select id from e", None, []),
        ("select id from e where id = 1 union all select k from b", None, []),
    ],
)  # fmt: skip
def test_conditions_leave_the_query(sql: str, rest: str | None, conditions: list[str]) -> None:
    found = split_where(parse_query(sql), "e", SCHEMA)
    assert (found.query.sql if found else None, list(found.conditions) if found else []) == (rest, conditions)


@pytest.mark.parametrize(
    ("sql", "unread", "left"),
    [
        ("select id, k + 1 as j, n from e", "j", "select id, n from e"),
        ("select id, -- first\n k /* second */, n -- third\n from e", "k", "select id, n -- third\n from e"),
        ("from e select id, k where k > 1", "k", "from e select id where k > 1"),
        ("select id, k + 1 as j from e", "id j", "select k + 1 as j from e"),
        ("select *, k + 1 as j from e", "j id", "select * from e"),
        ("select id, [1, 2] as q, {'a': k, 'b': 1} as r, sum(k) over () as s, from e", "q r s", "select id, from e"),
        ("select id, unnest(l) as v, k from e", "v k", "select id, unnest(l) as v from e"),
        ("select n, count(*) as c, max(k) as m from e group by n", "n c", "select n, max(k) as m from e group by n"),
        ("select count(*) as c, max(k) as m from e", "c m", "select max(k) as m from e"),
        ("select e.id, m from e join b on e.k = b.k", "id", "select m from e join b on e.k = b.k"),
        ("select id, k as z from e order by k limit 3", "z", "select id from e order by k limit 3"),
        ("select id from e", "id", None),
        ("select count(*) as c, 1 as one from e", "c one", None),
        ("select id, k from e", "x", None),
        ("select id, k as j from e where j > 1", "j", None),
        ("select id, k as j, j + 1 as i from e", "j", None),
        ("select id, k as j from e order by j", "j", None),
        ("select id, k from e order by k", "k", None),
        ("select id, k from e order by 2", "id", None),
        ("select id, k from e order by all", "k", None),
        ("select n, count(*) as c from e group by 1", "c", None),
        ("select n, count(*) as c from e group by all", "c", None),
        ("select n, count(*) as c from e join b on true group by n", "c", None),
        ("select distinct id, n from e", "n", None),
        ("select id, k from e union all select k, k from b", "k", None),
        ("select * from e", "k", None),
    ],
)
def test_outputs_that_nobody_reads_go(sql: str, unread: str, left: str | None) -> None:
    found = without_columns(parse_query(sql), frozenset(unread.split()))
    assert (found.sql if found else None) == left


QUERIES = (
    "select id as o0, k as o1, upper(n) as o2 from e{where}",
    "select e.id as o0, u.v as o1, e.k as o2 from e, unnest(l) as u(v){where}",
    "select k as o0, unnest(l) as o1, n as o2 from e{where}",
    "select e.id as o0, m as o1, b.k as o2 from e join b on e.k = b.k{where}",
    "select e.k as o0, m as o1, e.n as o2 from e left join b on e.k = b.k{where}",
    "select e.k as o0, m as o1, e.n as o2 from b left join e on e.k = b.k{where}",
    "select e.id as o0, c.id as o1, y as o2 from e full join c on e.id = c.id{where}",
    "select e.k as o0, e.n as o1, x as o2 from e semi join b using (k){where}",
    "select n as o0, count(*) as o1, max(k) as o2 from e{where} group by n",
    "select e.n as o0, e.k as o1, count(m) as o2 from e left join b on true{where} group by all",
    "select count(*) as o0, max(k) as o1, min(n) as o2 from e{where}",
    "select distinct k as o0, n as o1, 1 as o2 from e{where}",
    "select distinct on (n) n as o0, k as o1, id as o2 from e{where} order by n, k, id",
    "select id as o0, n as o1, count(*) over (partition by n) as o2 from e{where}",
    "select id as o0, k as o1, rank() over (partition by k order by x) as o2 from e{where} qualify o2 = 1",
    "select id as o0, k as o1, n as o2 from e{where} order by k desc, n",
    "select id as o0, k as o1, x as o2 from e{where} order by o1 desc limit 3",
    "select id as o0, k as o1, x + 1 as o2 from e order by n, 1 limit 2",
    "select id as o0, n as o1, k as o2 from e limit 2",
    "select id as o0, k as o1, n as o2 from e{where} union all select k, k, m from b",
    "select id as o0, k as o1, n as o2 from e{where} union all select id, k, n from e where e.k = 0",
    "select id as o0, k as o1, n as o2 from e{where} except select k, k, m from b",
    "select id as o0, k as o1, n as o2 from e where k in (select k from b) and e.id > 0",
)
CONDITIONS = ("e.k > 1", "e.n = 'a'", "e.id in (0, 2) and e.x is not null", "e.k = 1 or e.n is null", "len(e.n) > 1")
WHERES = st.one_of(st.just(""), st.sampled_from(CONDITIONS).map(" where {}".format))
WRITTEN = st.tuples(st.sampled_from(QUERIES), WHERES).map(lambda pair: pair[0].format(where=pair[1]))
VALUES = st.sampled_from((None, 0, 1, 2, "a", "b1"))


def multiset(rows: list[Row]) -> Counter[str]:
    return Counter(map(repr, rows))


def shown(database: Database, keyed: Keyed) -> list[Row]:
    """Return the rows in their order, without keys."""
    return [row[: len(row) - keyed.num_keys] for row in database.rows(keyed.sql)]


@EXAMPLES
def test_rows_are_the_same_where_a_filter_moved(database: Database, num_examples: int) -> None:
    moved: list[str] = []

    def is_same(sql: str, rows: Rows, at: int, value: object) -> None:
        pulled = pull_filter(parse_query(sql), frozenset({f"o{at}"}), SCHEMA)
        if pulled is None:
            return
        moved.append(sql)
        database.fill_all(rows)
        unmoved = [row for row in database.rows(sql) if row[at] == value]
        for one in pulled:
            place = SCHEMA[one.relation].index(one.columns[f"o{at}"])
            database.fill(one.relation, [row for row in rows[one.relation] if row[place] == value])
        assert multiset(database.rows(sql)) == multiset(unmoved)

    try_examples(num_examples, is_same, WRITTEN, ROWS, st.integers(0, 2), VALUES)
    assert len(moved) > num_examples / 10


@EXAMPLES
def test_rows_are_the_same_where_conditions_moved(database: Database, num_examples: int) -> None:
    moved: list[str] = []

    def is_same(sql: str, rows: Rows) -> None:
        found = split_where(parse_query(sql), "e", SCHEMA)
        if found is None:
            return
        moved.append(sql)
        database.fill_all(rows)
        unmoved = shown(database, with_keys(parse_query(sql)))
        conditions = " and ".join(f"({condition})" for condition in found.conditions)
        database.fill("e", database.rows(f"select * from e as {found.alias} where {conditions}"))
        assert shown(database, with_keys(found.query)) == unmoved

    try_examples(num_examples, is_same, WRITTEN, ROWS)
    assert len(moved) > num_examples / 10


def first_rows(pulled: PulledLimit, rows: list[Row]) -> list[Row]:
    """Return the rows that a limit takes, in their order: those of equal columns come as they stand."""
    taken = list(range(len(rows)))
    for column, is_descending in reversed(pulled.order_by):
        place = SCHEMA[pulled.relation].index(column)
        some = [number for number in taken if rows[number][place] is not None]
        some.sort(key=lambda number: rows[number][place], reverse=is_descending)
        taken = some + [number for number in taken if rows[number][place] is None]
    return [rows[number] for number in sorted(taken[: pulled.num_rows])]


@EXAMPLES
def test_rows_are_the_same_where_a_limit_moved(database: Database, num_examples: int) -> None:
    moved: list[str] = []

    def is_same(sql: str, rows: Rows) -> None:
        query = parse_query(sql)
        pulled = pull_limit(query, SCHEMA)
        if pulled is None:
            return
        moved.append(sql)
        database.fill_all(rows)
        unmoved = shown(database, with_keys(query))
        database.fill(pulled.relation, first_rows(pulled, rows[pulled.relation]))
        assert shown(database, with_keys(query)) == unmoved

    limited = st.sampled_from([one.format(where="") for one in QUERIES if "limit" in one])
    try_examples(num_examples, is_same, limited, ROWS)
    assert len(moved) > num_examples / 10


@EXAMPLES
def test_rows_are_the_same_where_outputs_went(database: Database, num_examples: int) -> None:
    moved: list[str] = []

    def is_same(sql: str, rows: Rows, unread: set[str]) -> None:
        query = parse_query(sql)
        found = without_columns(query, frozenset(unread))
        if found is None:
            return
        moved.append(sql)
        database.fill_all(rows)
        after = with_keys(found)
        left = [name for name in database.columns(after.sql) if name.startswith("o")]
        assert {"o0", "o1", "o2"} - set(left) <= unread
        expected = [tuple(row[int(name[1])] for name in left) for row in shown(database, with_keys(query))]
        assert shown(database, after) == expected

    outputs = st.sets(st.sampled_from(("o0", "o1", "o2")), min_size=1)
    try_examples(num_examples, is_same, WRITTEN, ROWS, outputs)
    assert len(moved) > num_examples / 10
