"""A table whose reader wants some of its rows gives, rewritten, what the naive plan gives, whatever the rows are."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from tests.tables.generated import HERE, Draw, Flow, rows
from tests.tables.test_tables_property import FOLDER, SETTINGS, Bench, Rows, check_same

NODES: dict[str, Any] = {
    "refused": {"python": {"call": f"{HERE}:refuse", "args": {"value": "{{ row.a }}"}}},
    "no_one": {"filter": "{{ row.a != 1 }}"},
    "no_x": {"filter": "{{ row.b != 'x' }}"},
    "turns": {"loop": {"max_turns": 2, "nodes": {"turn": {"llm": {"engine": "local", "prompt": "L {{ row.id }}"}}}}},
}
SOURCES = [
    {"from": "rows"},
    {"query": "select * from rows where id > 0"},
    {"query": "select id, a, b from rows union all select id, a, b from others"},
    {"query": "select a as id, a, min(b) as b from rows group by a"},
]
# Tables between that of the steps and its reader, which all give the same columns; none is the first.
MIDDLES = [
    "select * from t",
    "select id, b, a, x, y from t",
    "select id, a, b, x, y from t where x <> 'answer 3'",
    "select t.id, u.q as a, t.b, t.x, t.y from t, unnest([1, t.a]) as u(q)",
    "select t.id, t.a, t.b, t.x, o.b as y from t join others o on t.a = o.a",
    "select l.id, l.a, l.b, l.x, r.a as y from t l left join others r on l.id = r.id",
    "select min(id) as id, a, b, min(x) as x, min(y) as y from t group by a, b",
    "select distinct id, a, b, x, y from t",
    "select id, a, b, x, y from t order by b limit 4",
    "select id, a, b, x, y from t union all select id, a, b, x, y from t where a = 1",
]
QUERIES = [
    "select id, a, b, x, y from t order by a desc, id limit 2",
    "select id, a, x from t limit 3",
    "select id, b, x from t order by b, x limit 4",
    "select id, a, x from t order by 2 limit 2",
    "select * from t where a > 0",
    "select id, a, b, x, y from t where a = 1 and b <> 'y'",
    "select id, x from t where x <> 'q' and (a is null or id < 3)",
    "select a, count(distinct x) as n from t where b in ('x', 'xy') group by a",
    "select l.id, r.a, l.x, l.y from t l join others r on l.a = r.a where l.a >= 1 and r.id < 3",
    "select l.x, r.a from others r left join t l on l.a = r.a where l.a >= 1",
    "select distinct a, x from t where a <= 1",
    "select id, x from t where a = 1 order by x limit 2",
    "select id, x, y from t where not (a between 1 and 2)",
]


def of(query: str, source: str) -> str:
    """The query over `source` in the place of `t`."""
    return re.sub(r"\bt\b", source, query)


def middle(draw: Draw, name: str, source: str) -> dict[str, Any]:
    """A table over `source`, some with steps of its own, and some of these with a filter."""
    section: dict[str, Any] = {"query": of(draw(st.sampled_from(MIDDLES)), source)}
    section["failed_rows"] = draw(st.sampled_from(["stop", "stop", "leave_out"]))
    if draw(st.booleans()):
        prompt = "M {{ row.b }} {{ row.id }}"
        section["nodes"] = {f"{name}_told": {"llm": {"engine": "local", "prompt": prompt}}}
        section["outputs"] = {one: f"{{{{ row.{one} }}}}" for one in ("id", "a", "b", "x")}
        section["outputs"]["y"] = f"{{{{ {name}_told.text }}}}"
        if not draw(st.integers(0, 3)):
            section["nodes"][f"{name}_some"] = {"filter": "{{ row.a != 2 }}"}
    return section


@st.composite
def pairs(draw: Draw) -> Flow:
    """The document of a flow: the table `t`, and the table `found`, which reads it."""
    names = draw(st.lists(st.sampled_from(sorted(NODES)), max_size=3, unique=True))
    outputs = {name: f"{{{{ row.{name} }}}}" for name in ("id", "a", "b")}
    outputs |= {"x": "{{ ask.text }}", "y": "{{ refused }}" if "refused" in names else "{{ row.a }}"}
    ask = {"llm": {"engine": "local", "prompt": "P {{ row.b }} {{ row.id }}"}}
    nodes = {"ask": ask, **{name: NODES[name] for name in names}}
    found = {"query": draw(st.sampled_from(QUERIES)), "failed_rows": draw(st.sampled_from(["stop", "leave_out"]))}
    tables: Any = {"t": {**draw(st.sampled_from(SOURCES)), "nodes": nodes, "outputs": outputs}}
    for number in range(draw(st.sampled_from([0, 1, 1, 2]))):
        tables[f"m{number}"] = middle(draw, f"m{number}", list(tables)[-1])
    found["query"] = of(found["query"], list(tables)[-1])
    return {
        "name": "pair",
        "engines": {"local": {"kind": "null"}},
        "inputs": {"rows": {"path": "rows.jsonl"}, "others": {"path": "others.jsonl"}},
        "tables": {**tables, "found": found},
        "results": ["found"],
    }


@pytest.mark.parametrize("part", range(2))
def test_rows_that_are_not_wanted_change_nothing(part: int) -> None:
    num_spared = 0

    @seed(part)
    @settings(SETTINGS, max_examples=25, derandomize=False, database=None)
    @given(flow=pairs(), given_rows=rows, other_rows=rows)
    def check(flow: Flow, given_rows: Rows, other_rows: Rows) -> None:
        nonlocal num_spared
        with tempfile.TemporaryDirectory(dir=FOLDER) as path:
            bench = Bench(Path(path), flow, given_rows, other_rows)
            naive, rewritten = bench.run(naive=True), bench.run()
        check_same(bench.plan, naive, rewritten)
        num_spared += 0 if naive.error else naive.num_executed - rewritten.num_executed

    check()
    assert num_spared > 10
