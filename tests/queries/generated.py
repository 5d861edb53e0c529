"""Generated queries and rows for the properties of this room, and the DuckDB that they are run on.

`e` is the stream (id, k, n, x, l), `b` and `c` are finished tables (k, m, l2) and (id, y).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SCHEMAS = {
    "e": "id bigint, k bigint, n varchar, x double, l bigint[]",
    "b": "k bigint, m varchar, l2 struct(q bigint, w varchar)[]",
    "c": "id bigint, y double",
}
Row = tuple[Any, ...]
Rows = dict[str, list[Row]]

SCALARS = (
    "{s}id", "{s}k + 1", "upper({s}n)", "{s}n || '-'", "coalesce({s}x, 0.5)", "case when {s}k > 1 then {s}n end",
    "len({s}l)", "list_transform({s}l, lambda z: z * 2)", "{{'a': {s}id}}", "[v + 1 for v in {s}l if v > 1]", "{s}l[1]",
    "{s}k is distinct from 2", "extract(year from date '2020-02-03')", "{s}id::varchar", "try_cast({s}n as bigint)",
    "substring({s}n from 2)", "{s}x between 0 and 2", "hash({s}id) % 7",
)  # fmt: skip
CONDITIONS = ("{s}k > 1", "{s}n like 'a%'", "{s}x is not null", "len({s}l) > 1 or {s}k = 0", "{s}k in (0, 2)")
#: Joins behind `e` in the from of a row-wise query, with outputs that read them.
JOINS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (", unnest(e.l) as u(v)", ("u.v", "v + e.k")),
    (" cross join unnest(l) u", ("u",)),
    (", unnest(list_filter(e.l, lambda z: z > 1)) as w(v1)", ("v1",)),
    (" left join unnest(e.l) with_v(v2) on with_v.v2 > 1", ("v2",)),
    (" join b on e.k = b.k", ("b.m", "b.k as bk")),
    (" left join b as b2 on b2.k = e.k and b2.m <> 'b1'", ("b2.m as m2",)),
    (" left outer join c on c.id > e.id", ("y", "c.id as cid")),
    (", b as b3, unnest(b3.l2) as t(s)", ("s.q", "t.s.w", "s")),
)
NOT_ROW_WISE = (
    "select distinct {out} from {src}{where}",
    "select {out} from {src}{where} order by e.k",
    "select {out} from {src}{where} order by 1 desc limit 3",
    "select e.n as g, count(*) as num, max(e.id) as m from {src}{where} group by e.n",
    "select e.n as g, e.k as h, sum(e.k) as m from {src}{where} group by all having count(*) > 1",
    "select count(*) as num, min(e.n) as n1 from {src}{where}",
    "select {out}, row_number() over (partition by e.k order by e.id) as r from {src}{where}",
    "select {out}, count(*) over (partition by e.n) as r from {src}{where}",
    "select {out} from {src} where e.k in (select k from b)",
    "select e.id as o, b9.m as p from b as b9 join e on b9.k = e.k",
    "select e.id as o, e2.n as p from e join e as e2 on e.k = e2.k",
    "select e.id as o from e full join c on c.id = e.id",
    "select e.id as o, e.n from e semi join b using (k)",
    "with t as (select * from e{where}) select t.id as o from t",
    "select e.id as o from e{where} union select k from b",
    "select e.k as o from e{where} except select k from b",
    "select t.o from (select e.id as o from e{where}) as t",
)


_NAME = re.compile(r" as \w+$")


@st.composite
def _selects(draw: st.DrawFn, num_outputs: int | None = None) -> tuple[str, str, str]:
    """Return outputs, sources and condition of a row-wise select."""
    joins = draw(st.lists(st.sampled_from(JOINS), max_size=2, unique=True))
    pool = [part.format(s="e.") for part in SCALARS]
    if not joins:
        pool += [part.format(s="") for part in SCALARS]
    outputs = [output for _, read in joins for output in read]
    count = st.just(num_outputs) if num_outputs else st.integers(1, 3)
    chosen = draw(count.flatmap(lambda n: st.lists(st.sampled_from(pool + 3 * outputs), min_size=n, max_size=n)))
    named = [f"{_NAME.sub('', one)} as o{number}" for number, one in enumerate(chosen)]
    if num_outputs is None and draw(st.booleans()):
        star = "*" if len(joins) < 2 and not any(" b" in join or " c " in join for join, _ in joins) else "e.*"
        named.insert(draw(st.integers(0, len(named))), star)
    if not joins and num_outputs is None and draw(st.integers(0, 3)) == 0:
        named.append("unnest(e.l) as un")
    condition = draw(st.sampled_from(("", *CONDITIONS))).format(s="e.")
    return ", ".join(named), "e" + "".join(join for join, _ in joins), f" where {condition}" if condition else ""


@st.composite
def row_wise_queries(draw: st.DrawFn) -> str:
    """Return a query whose rows are each made of one row of `e`, which some way of writing it may hide."""
    if draw(st.integers(0, 4)) < 4:
        out, src, where = draw(_selects())
        return draw(st.sampled_from(("select {0} from {1}{2}", "from {1} select {0}{2}"))).format(out, src, where)
    parts = [draw(_selects(num_outputs=1)) for _ in range(draw(st.integers(2, 3)))]
    casts = [(f"cast({out.removesuffix(' as o0')} as varchar) as o0", *rest) for out, *rest in parts]
    return " union all ".join(f"select {out} from {src}{where}" for out, src, where in casts)


@st.composite
def other_queries(draw: st.DrawFn) -> str:
    """Return a query that is not row-wise."""
    out, src, where = draw(_selects())
    return draw(st.sampled_from(NOT_ROW_WISE)).format(out=out, src=src, where=where)


_small = st.one_of(st.none(), st.integers(0, 3))
_text = st.one_of(st.none(), st.sampled_from(("a", "ab", "b1", "7", "")))
_real = st.one_of(st.none(), st.sampled_from((0.0, 0.5, 2.25)))
_elements = st.lists(st.fixed_dictionaries({"q": _small, "w": _text}), max_size=3)
ROWS: st.SearchStrategy[Rows] = st.fixed_dictionaries(
    {
        "e": st.lists(st.tuples(_small, _small, _text, _real, st.one_of(st.none(), st.lists(_small, max_size=3)))),
        "b": st.lists(st.tuples(_small, _text, st.one_of(st.none(), _elements)), max_size=4),
        "c": st.lists(st.tuples(_small, _real), max_size=3),
    }
)


EXAMPLES = pytest.mark.parametrize("num_examples", [25, pytest.param(1000, marks=pytest.mark.slow)])


def try_examples(num_examples: int, check: Callable[..., None], *strategies: st.SearchStrategy[Any]) -> None:
    """Call `check` with that many examples, the same ones each time."""
    health = list(HealthCheck)
    given_all = given(*strategies)(check)
    settings(deadline=None, derandomize=True, max_examples=num_examples, suppress_health_check=health)(given_all)()


class Database:
    """One DuckDB whose three tables hold what a test says."""

    def __init__(self) -> None:
        self.connection = duckdb.connect(config={"threads": 1})
        for name, columns in SCHEMAS.items():
            self.connection.execute(f"create table {name} ({columns})")

    def fill(self, name: str, rows: Sequence[Row]) -> None:
        """Put `rows` into the table, whose `rowid` counts from 0 again."""
        self.connection.execute(f"create or replace table {name} ({SCHEMAS[name]})")
        if rows:
            marks = ", ".join(f"({', '.join('?' for _ in row)})" for row in rows)
            self.connection.execute(f"insert into {name} values {marks}", [value for row in rows for value in row])

    def fill_all(self, rows: Rows) -> None:
        for name, table in rows.items():
            self.fill(name, table)

    def rows(self, sql: str) -> list[Row]:
        return self.connection.execute(sql).fetchall()

    def columns(self, sql: str) -> list[str]:
        return [name for name, *_ in self.connection.execute(sql).description or ()]

    def plan(self, sql: str) -> str:
        """Return the names of the operators of the physical plan."""
        (found,) = self.connection.execute(f"explain (format json) {sql}").fetchall()
        return str(found[1])


def parts_of(rows: Sequence[Row], cuts: Sequence[int]) -> Iterator[tuple[int, Sequence[Row]]]:
    """Return `rows` divided at `cuts`, each part with the number of its first row."""
    places = sorted({0, len(rows), *(cut % (len(rows) + 1) for cut in cuts)})
    for start, end in zip(places, [*places[1:], len(rows)], strict=True):
        yield start, rows[start:end]
