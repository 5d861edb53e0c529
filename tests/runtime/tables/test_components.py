"""The connected components of a graph whose nodes and edges two queries give."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sundog as sd
from sundog.errors import FlowError, RunError
from sundog.ir.logical import InputSource, Table
from sundog.ir.sql_types import PlainType
from sundog.ir.tables import ComponentRows
from sundog.runtime.rows.inputs import ALL_ROWS
from sundog.runtime.tables.components import component_lines
from sundog.runtime.tables.relations import Relations

BIGINT = PlainType("BIGINT")
SOURCE = ComponentRows("select id from people", "select a, b from same", ("people", "same"))


def closed(people: list[int | None], same: list[tuple[int | None, int | None]], **more: Any) -> list[tuple[int, int]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "people.jsonl").write_text("".join(json.dumps({"id": one}) + "\n" for one in people))
        (folder / "same.jsonl").write_text("".join(json.dumps({"a": a, "b": b}) + "\n" for a, b in same))
        inputs = [InputSource(name, path=f"{name}.jsonl") for name in ("people", "same")]
        relations = Relations(inputs, folder, None, ALL_ROWS, {})
        try:
            relations.declare("people", (("id", BIGINT),))
            relations.declare("same", (("a", BIGINT), ("b", BIGINT)))
            relations.load("people", (("id", BIGINT),), (folder / "people.jsonl").read_bytes().splitlines())
            columns = (("a", BIGINT), ("b", BIGINT))
            relations.load("same", columns, (folder / "same.jsonl").read_bytes().splitlines())
            lines = component_lines(Table("t", SOURCE, (), (), **more), SOURCE, relations)
            return [(row["id"], row["component"]) for row in map(json.loads, lines)]
        finally:
            relations.close()


def test_a_component_is_known_by_its_smallest_id() -> None:
    assert closed([9, 3, 5, 1, 7], [(9, 5), (7, 9)]) == [(1, 1), (3, 3), (5, 5), (7, 5), (9, 5)]
    assert closed([], []) == []


@given(
    st.sets(st.integers(-50, 50), max_size=30).flatmap(
        lambda ids: st.tuples(
            st.permutations(sorted(ids)),
            st.lists(st.tuples(*[st.sampled_from(sorted(ids))] * 2), max_size=40) if ids else st.just([]),
        )
    )
)
def test_two_nodes_share_a_component_where_a_way_leads_from_one_to_the_other(
    graph: tuple[list[int], list[tuple[int, int]]],
) -> None:
    ids, edges = graph
    reached = {one: {one} for one in ids}
    for _ in ids:
        for one, other in edges:
            both = reached[one] | reached[other]
            for node in both:
                reached[node] = both
    assert closed(list(ids), list(edges)) == [(one, min(reached[one])) for one in sorted(ids)]


@pytest.mark.parametrize(
    ("people", "same", "what"),
    [
        ([1, 2], [(1, 3)], "an edge names the node 3, which is not there"),
        ([1, 2], [(1, None)], "an edge names the node null"),
        ([1, 2, 1], [], "two nodes have the id 1"),
        ([1, None], [], "a node has no id"),
    ],
)
def test_what_is_no_graph_ends_the_run(people: Any, same: Any, what: str) -> None:
    with pytest.raises(RunError, match=what):
        closed(people, same)


def test_too_many_edges_end_the_run() -> None:
    with pytest.raises(RunError, match="gives more than 2 rows"):
        closed([1, 2], [(1, 2)] * 3, max_rows=2)


def people(folder: Path) -> sd.Flow:
    (folder / "people.csv").write_text("id,name\n1,Ann\n2,Bob\n3,Anne\n")
    flow = sd.Flow("people", base_dir=folder)
    flow.input("people", "people.csv")
    return flow


def test_components_are_rows_of_a_table(tmp_path: Path) -> None:
    flow = people(tmp_path)
    edges = "select a.id, b.id as other from people a, people b where a.id < b.id and a.name[:3] = b.name[:3]"
    flow.table("same", components={"nodes": "select id from people", "edges": edges})
    flow.table("names", query="select p.name, s.component from people p join same s on s.id = p.id")
    assert [(row["name"], row["component"]) for row in flow.run(state=tmp_path / "state", progress=False)] == [
        ("Ann", 1), ("Bob", 2), ("Anne", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "edges", "what"),
    [
        (
            "select id, name from people",
            "select id, id as b from people",
            "`nodes` of the table 'same' gives 2 columns",
        ),
        ("select id from people", "select id from people", "`edges` of the table 'same' gives 1 columns"),
        ("select name from people", "select 1 as a, 2 as b", r"the column 'name' of `nodes` .* holds no whole numbers"),
    ],
)
def test_what_cannot_be_a_graph_is_told_before_anything_runs(tmp_path: Path, nodes: str, edges: str, what: str) -> None:
    flow = people(tmp_path)
    flow.table("same", components={"nodes": nodes, "edges": edges})
    with pytest.raises(FlowError, match=what):
        flow.run(state=tmp_path / "state", progress=False)
