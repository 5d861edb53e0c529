"""Tables of other flows: what comes along, and what must not differ."""

from __future__ import annotations

from pathlib import Path

import pytest

import sundog as sd
from sundog.errors import FlowError, Location
from sundog.flow.bind import load_flow
from sundog.flow.python.builder import FlowBuilder

EXTRACT = """
name: extract
engines: {local: {kind: "null"}}
inputs: {visits: {path: visits.csv}, unread: {path: unread.csv}}
constants: {tone: calm}
tables:
  read:
    from: visits
    nodes: {reading: {llm: {engine: local, prompt: "Be {{ tone }}: {{ row.note }}", max_tokens: 4}}}
    outputs: {id: "{{ row.id }}", text: "{{ reading.text }}"}
  notes: {query: "select id, text from read where id > 1"}
  others: {query: "select id from read"}
"""
SIMPLE = """
name: simple
engines: {local: {kind: "null"}}
inputs: {visits: {path: visits.csv}}
nodes: {gist: {llm: {engine: local, prompt: "{{ row.note }}", max_tokens: 4}}}
outputs: {id: "{{ row.id }}", gist: "{{ gist.text }}"}
"""


NOTES = """
  notes: {from: {flow: extract.yaml, table: notes}}
  n: {query: select count(*) as n from notes}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "extract.yaml").write_text(EXTRACT)
    (tmp_path / "simple.yaml").write_text(SIMPLE)
    (tmp_path / "visits.csv").write_text("id,note\n1,one\n2,two\n3,three\n")
    return tmp_path


def write(folder: Path, tables: str, more: str = "") -> Path:
    (folder / "flow.yaml").write_text(f"name: flow\n\n{more}\ntables:\n{tables}")
    return folder / "flow.yaml"


def test_a_table_comes_with_what_it_is_made_of(folder: Path) -> None:
    plan = load_flow(
        write(
            folder, "  notes: {from: {flow: extract.yaml, table: notes}}\n  n: {query: select count(*) as n from notes}"
        )
    )
    assert [table.name for table in plan.tables] == ["read", "notes", "n"]
    assert plan.results == ("n",)
    assert [source.name for source in plan.inputs] == ["visits"]
    assert [block.name for block in plan.engines] == ["local"]
    assert plan.constants == {"tone": "calm"}


def test_it_is_run_with_this_flow(folder: Path) -> None:
    tables = """
  found: {from: {flow: extract.yaml, table: notes}}
  simple: {from: {flow: simple.yaml}}
  both: {query: "select f.id, f.text = s.gist as is_same from found f join simple s using (id)"}
"""
    result = sd.run(write(folder, tables), state=folder / "state", progress=False)
    assert [row["id"] for row in result] == [2, 3]
    assert [node.node for node in result.report.nodes] == ["reading", "gist"]


def test_python_says_the_same(folder: Path) -> None:
    flow = FlowBuilder("flow", base_dir=folder)
    notes = flow.table_of("notes", flow="extract.yaml", table="notes")
    flow.table("n", query=f"select count(*) as n from {notes}")
    written = write(folder, NOTES)
    assert flow.plan() == load_flow(written)


@pytest.mark.parametrize(
    ("tables", "more", "what", "line"),
    [
        ("  a: {from: {flow: extract.yaml, table: note}}", "", "extract.yaml has no table 'note'", 5),
        ("  a: {from: {flow: extract.yaml}}", "", "extract.yaml has 3 tables: say which", 5),
        ("  a: {from: {flow: no.yaml, table: x}}", "", "the flow cannot be read", 5),
        ("  a: {from: {flow: no.yaml, table: x}}\n  b: {query: select x from a}", "", "the flow cannot be read", 5),
        ("  a: {from: {flow: ../flow.yaml, table: x}}", "", "is not in the folder of this one", 5),
        ("  a: {from: {flow: flow.yaml, table: a}}", "", "the flows take tables of each other in a circle", 5),
        ("  a: {from: {flow: extract.yaml, table: notes}, nodes: {}}", "", "unknown key 'nodes' in 'a'", 5),
        (
            "  a: {from: {flow: extract.yaml, table: notes}}",
            "engines: {local: {kind: 'null', latency_s: 1}}",
            "this flow and extract.yaml both have an engine 'local', and they differ",
            5,
        ),
        (
            "  a: {from: {flow: extract.yaml, table: notes}}",
            "constants: {tone: wild}",
            "both have a constant 'tone', and they differ",
            5,
        ),
        (
            "  a: {from: {flow: extract.yaml, table: notes}}\n  read: {query: select 1 as one}",
            "",
            "the name 'read' is taken by a table",
            6,
        ),
    ],
)
def test_what_is_wrong_is_told(folder: Path, tables: str, more: str, what: str, line: int) -> None:
    with pytest.raises(FlowError) as raised:
        load_flow(write(folder, tables, more))
    assert what in str(raised.value)
    assert "there is no table" not in str(raised.value), "what follows from a mistake is none"
    assert isinstance(raised.value.where, Location) or "circle" in what
    if isinstance(raised.value.where, Location) and raised.value.where.file.endswith("flow.yaml"):
        assert raised.value.where.line == line


def test_what_is_wrong_in_the_other_flow_is_told_there(folder: Path) -> None:
    (folder / "extract.yaml").write_text(EXTRACT.replace("row.note", "rov.note"))
    with pytest.raises(FlowError, match="unknown name 'rov'") as raised:
        load_flow(write(folder, "  a: {from: {flow: extract.yaml, table: notes}}"))
    assert isinstance(raised.value.where, Location)
    assert raised.value.where.file.endswith("extract.yaml")
