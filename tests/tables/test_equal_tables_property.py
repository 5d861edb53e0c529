"""Tables that are equal but for names are one, and the results are those of the naive plan; tables that differ in
anything else stay two."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from sundog.config import read_config
from sundog.session.session import plan_session
from tests.tables.generated import HERE, Draw, Flow, rows
from tests.tables.test_tables_property import FOLDER, SETTINGS, Bench, Rows, check_same

#: Sources of tables; `{t}` is the name of one.
SOURCES = [
    {"query": "select id, a, b from rows where a > 0"},
    {"query": "SELECT id, a, b FROM rows -- all\n WHERE a > 0"},
    {"query": "select id, a, b from rows where a > 1"},
    {"query": "select id, a, b from rows order by id limit 2"},
    {"from": "rows"},
]
NODES: list[dict[str, Any]] = [
    {"python": {"call": f"{HERE}:measure", "args": {"text": "{{ row.b }}"}}, "share": True},
    {"python": {"call": f"{HERE}:refuse", "args": {"value": "{{ row.a }}"}}, "share": True},
    {"python": {"call": f"{HERE}:emit", "args": {"step": "{t}_n", "text": "{{ row.id }}"}, "effect": True}},
    {"filter": "{{ row.a != 1 }}"},
    {"filter": "{{ row.b != 'x' }}"},
    {"filter": "{{ {t}_ask.text < 'answer 7' }}"},
]
PROMPTS = ["P {{ row.b }}", "P {{ row.b }} {{ row.id }}", "P {{ row.b }}"]
OUTPUTS = ["{{ {t}_ask.text }}", "{{ {t}_ask.text }}!", "{{ row.b }}"]
QUERIES = [
    "select id, {t}.x as x from {t} where {t}.id >= 1",
    "select id, {t}.x from {t} where id >= 1",
    "select c.id, c.x from {t} c where c.id >= 2",
    "select id, min(x) as x from {t} group by id",
]
READERS = [
    "select 1 as n, id, x from over_one union all select 2, id, x from over_two",
    "select over_one.id, over_two.x from over_one join over_two on over_one.id = over_two.id",
    "select o.id, t.x from one o left join two t on o.id = t.id and o.x = t.x",
]
PARTS = {
    "source": st.sampled_from(SOURCES),
    "prompt": st.sampled_from(PROMPTS),
    "node": st.sampled_from(NODES),
    "x": st.sampled_from(OUTPUTS),
    "query": st.sampled_from(QUERIES),
    "failed_rows": st.sampled_from(["leave_out", "stop"]),
}


def named(value: Any, name: str) -> Any:
    """Put the name of a table into its parts."""
    if isinstance(value, dict):
        return {key: named(one, name) for key, one in value.items()}
    return value.replace("{t}", name) if isinstance(value, str) else value


def tables_of(name: str, parts: dict[str, Any]) -> dict[str, Any]:
    """The table of that name, and one over it."""
    nodes = {f"{name}_ask": {"llm": {"engine": "local", "prompt": parts["prompt"]}}, f"{name}_n": parts["node"]}
    outputs = {"id": "{{ row.id }}", "x": parts["x"]}
    over = {"query": parts["query"], "failed_rows": parts["failed_rows"]}
    return {
        name: named({**parts["source"], "nodes": nodes, "outputs": outputs}, name),
        f"over_{name}": named(over, name),
    }


@st.composite
def pairs(draw: Draw) -> Flow:
    """The document of a flow: two tables that differ in one part at most, one over each, and a reader of both."""
    parts = {name: draw(some) for name, some in PARTS.items()}
    changed = draw(st.sampled_from(["", "", "source", "query", "x", *PARTS]))
    others = {**parts, changed: draw(PARTS[changed])} if changed else parts
    reader = {"query": draw(st.sampled_from(READERS)), "failed_rows": "leave_out"}
    return {
        "name": "pair",
        "engines": {"local": {"kind": "null"}},
        "inputs": {"rows": {"path": "rows.jsonl"}, "others": {"path": "others.jsonl"}},
        "tables": {**tables_of("one", parts), **tables_of("two", others), "all": reader},
        "results": draw(st.sampled_from([*3 * [["all"]], ["two", "all"], ["one", "two", "all"]])),
    }


def test_equal_tables_are_one_and_others_are_not() -> None:
    nums_gone: list[int] = []

    @settings(SETTINGS, max_examples=30)
    @given(flow=pairs(), given_rows=rows, other_rows=rows)
    def check(flow: Flow, given_rows: Rows, other_rows: Rows) -> None:
        with tempfile.TemporaryDirectory(dir=FOLDER) as path:
            bench = Bench(Path(path), flow, given_rows, other_rows)
            check_same(bench.plan, bench.run(naive=True), bench.run())
            session = plan_session(bench.plan, Path(path), read_config(Path(path) / "state"))
            session.rows.close()
        fired = [note for one in session.flow.rewritten.fired if one.rule == "merge_tables" for note in one.notes]
        nums_gone.append(len(fired))

    check()
    assert sum(number > 0 for number in nums_gone) > 5
    assert sum(number == 0 for number in nums_gone) > 5
