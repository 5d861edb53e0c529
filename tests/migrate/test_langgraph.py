"""LangGraph's graphs become flows: nodes that ask a model are llm steps, all others functions, edges conditions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sundog as sd
from sundog.errors import FlowError
from sundog.migrate.langgraph.graph import import_langgraph

GRAPHS = "tests.migrate.graphs"


def test_nodes_become_steps_and_edges_conditions() -> None:
    made = import_langgraph(f"{GRAPHS}:graph")
    nodes = made.flow["nodes"]
    assert nodes["classify"] == {
        "llm": {
            "engine": "tiny",
            "messages": [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": "What kind? {{ row.text }}"},
            ],
            "temperature": 0.5,
        }
    }
    assert nodes["route_classify"] == {
        "python": {"call": f"{GRAPHS}:route", "args": {"state": {"kind": "{{ classify.text }}"}}}
    }
    assert nodes["answer"] == {
        "when": "{{ route_classify == 'question' }}",
        "llm": {"engine": "tiny", "prompt": "Answer: {{ row.text }}", "temperature": 0.5},
    }
    assert nodes["refuse"]["when"] == "{{ route_classify == 'other' }}"
    assert nodes["send"]["when"] == "{{ (route_classify == 'question') or (route_classify == 'other') }}"
    either = "refuse.answer if 'answer' in (refuse or {}) else answer.text if answer is not none else none"
    assert nodes["send"]["python"]["args"]["state"] == {"answer": f"{{{{ {either} }}}}"}
    assert made.flow["engines"] == {"tiny": {"kind": "openai", "model": "tiny", "base_url": "http://localhost:8000/v1"}}
    assert made.not_taken_over == []
    assert "an object with text." in made.remarks[0]


@pytest.mark.parametrize("name", ["graph", "chosen"])
def test_the_flow_runs(name: str, tmp_path: Path) -> None:
    made = import_langgraph(f"{GRAPHS}:{name}")
    for engine in made.flow["engines"].values():
        engine.clear()
        engine["kind"] = "null"
    (tmp_path / "flow.yaml").write_text(made.text(tmp_path, name))
    (tmp_path / "rows.jsonl").write_text('{"text": "hello", "kind": "question"}\n{"text": "go away", "kind": "rude"}\n')
    rows = list(sd.run(tmp_path / "flow.yaml", state=tmp_path / "state", progress=False))
    answers = [row["answer"] for row in rows]
    if name == "graph":
        assert answers == ["no", "no"], "the engine without a model says no kind"
        assert [row["sent"] for row in rows] == [True, True]
    else:
        assert answers[0].startswith("answer ")
        assert answers[1] == "no"
        assert rows[1]["sent"] is False


def test_what_is_not_taken_over_is_told() -> None:
    made = import_langgraph(f"{GRAPHS}:opaque")
    assert made.not_taken_over == [
        "what 'a' writes: its `return` does not show the keys",
        "the node 'b': it is no function of a module",
    ]
    state = made.flow["nodes"]["a"]["python"]["args"]["state"]
    assert json.dumps(state) == json.dumps({key: f"{{{{ row.{key} }}}}" for key in ("text", "kind", "answer", "sent")})


@pytest.mark.parametrize(
    ("reference", "what"),
    [
        (f"{GRAPHS}:circle", "the graph goes round: "),
        (f"{GRAPHS}:lost", "nothing of"),
        (f"{GRAPHS}:nix", "cannot be imported"),
        ("no_such_module:graph", "cannot be imported"),
        (f"{GRAPHS}:RULES", "is no graph of LangGraph"),
        ("graph", "is no module:graph"),
    ],
)
def test_what_is_no_graph(reference: str, what: str) -> None:
    with pytest.raises(FlowError) as caught:
        import_langgraph(reference)
    assert what in caught.value.what
