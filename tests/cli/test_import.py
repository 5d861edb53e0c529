"""`sundog import`: the flow on stdout or in a file, what was not taken over on stderr."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.flows import sundog

PIPELINE = {
    "datasets": {"notes": {"type": "file", "path": "notes.json"}},
    "operations": [
        {
            "name": "sort",
            "type": "map",
            "prompt": "{{ input.note }}",
            "output": {"schema": {"kind": "string"}},
            "validate": ["output['kind']"],
        }
    ],
    "pipeline": {"steps": [{"name": "all", "input": "notes", "operations": ["sort"]}], "output": {"path": "x.json"}},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "notes.json").write_text('[{"note": "a"}]')
    (tmp_path / "pipeline.yaml").write_text(json.dumps(PIPELINE))
    return tmp_path


def test_a_flow_is_printed_and_what_is_left_is_told(folder: Path) -> None:
    made = sundog(folder, "import", "docetl", "pipeline.yaml")
    assert made.exit_code == 0, made.stderr
    assert made.stdout.startswith("# imported from pipeline.yaml\n# not taken over: sort.validate")
    assert made.stderr.startswith("not taken over: sort.validate: ")
    (folder / "flow.yaml").write_text(made.stdout)
    assert sundog(folder, "explain", "flow.yaml").exit_code == 0


def test_a_flow_is_written_and_nothing_is_written_over(folder: Path) -> None:
    made = sundog(folder, "import", "docetl", "pipeline.yaml", "-o", "new/flow.yaml")
    assert (made.exit_code, made.stdout) == (0, "new/flow.yaml\n"), made.stderr
    assert "path: ../notes.json" in (folder / "new" / "flow.yaml").read_text(), "paths are counted from the flow"
    again = sundog(folder, "import", "docetl", "pipeline.yaml", "-o", "new/flow.yaml")
    assert again.exit_code == 2
    assert "new/flow.yaml is there already" in again.stderr


def test_what_cannot_be_imported_ends_with_2(folder: Path) -> None:
    (folder / "empty.yaml").write_text("pipeline: {steps: []}")
    assert sundog(folder, "import", "docetl", "empty.yaml").exit_code == 2
    assert sundog(folder, "import", "docetl", "nix.yaml").exit_code == 2
    assert sundog(folder, "import", "langgraph", "nix:graph").exit_code == 2


def test_a_graph_is_found_from_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "my_graph.py").write_text(
        "from langgraph.graph import StateGraph, START, END\n"
        "class State(dict):\n    text: str\n    length: int\n"
        "def count(state):\n    return {'length': len(state['text'])}\n"
        "graph = StateGraph(State)\ngraph.add_node('count', count)\n"
        "graph.add_edge(START, 'count')\ngraph.add_edge('count', END)\n"
    )
    made = sundog(folder, "import", "langgraph", "my_graph:graph")
    assert made.exit_code == 0, made.stderr
    assert "call: my_graph:count" in made.stdout
