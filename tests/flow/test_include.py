"""Steps of another flow: the plan that they make here, and what is told where something is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

import sundog as sd
from sundog.errors import FlowError, Location
from sundog.flow.bind import load_flow
from sundog.flow.python.builder import FlowBuilder

STEPS = """# Steps that several flows share.
constants:
  tone: calm
  labels: {file: labels.json}
nodes:
  facts:
    llm:
      engine: local
      prompt: {file: facts.md}
  kind:
    llm: {engine: local, prompt: "{{ labels | join(', ') }}: {{ facts.text }}", output: {kind: [a, b]}}
    after: [facts]
  unused:
    llm: {engine: remote, prompt: "{{ row.text }}"}
"""
FLOW = """
name: shared
engines: {local: {kind: "null", model: m}}
inputs: {rows: rows.jsonl}
constants: {house: Dawn}
nodes:
INCLUDES
outputs: {kind: "{{ my_kind.kind }}"}
"""
INCLUDE = (
    '  s: {include: {flow: steps.yaml, nodes: [facts, kind], prefix: my_, with: {tone: "{{ house }} {{ row.id }}"}}}'
)
WRITTEN = """
name: shared
engines: {local: {kind: "null", model: m}}
inputs: {rows: rows.jsonl}
constants: {house: Dawn, s_labels: [a, b]}
nodes:
  s_tone: {value: "{{ house }} {{ row.id }}"}
  my_facts:
    llm: {engine: local, prompt: "Be {{ s_tone }}: {{ row.text }}"}
  my_kind:
    llm: {engine: local, prompt: "{{ s_labels | join(', ') }}: {{ my_facts.text }}", output: {kind: [a, b]}}
    after: [my_facts]
outputs: {kind: "{{ my_kind.kind }}"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "steps.yaml").write_text(STEPS)
    (tmp_path / "labels.json").write_text('["a", "b"]')
    (tmp_path / "facts.md").write_text("Be {{ tone }}: {{ row.text }}\n")
    (tmp_path / "rows.jsonl").write_text('{"id": 1, "text": "x"}\n')
    return tmp_path


def write(folder: Path, includes: str = INCLUDE, flow: str = FLOW) -> Path:
    path = folder / "flow.yaml"
    path.write_text(flow.replace("INCLUDES", includes))
    return path


def test_included_steps_are_steps_of_the_flow(folder: Path) -> None:
    plan = load_flow(write(folder))
    assert plan == load_flow(write(folder, flow=WRITTEN))
    assert len(sd.run(write(folder), state=folder / "state")) == 1


def test_a_flow_written_in_python_includes_the_same(folder: Path) -> None:
    flow = FlowBuilder("shared", base_dir=folder)
    flow.engine("local", kind="null", model="m")
    row = flow.input("rows", "rows.jsonl")
    house = flow.constant("house", "Dawn")
    steps = flow.include("s", "steps.yaml", nodes=["facts", "kind"], prefix="my_", with_={"tone": f"{house} {row.id}"})
    flow.output(kind=steps("kind").kind)
    assert flow.plan() == load_flow(write(folder))


def test_steps_may_be_included_twice_and_in_loops(folder: Path) -> None:
    includes = """
  a: {include: {flow: steps.yaml, nodes: [facts], prefix: a_, with: {tone: 7}}}
  b:
    loop:
      max_turns: 2
      nodes:
        c: {include: {flow: steps.yaml, nodes: [facts], prefix: b_, with: {tone: "{{ loop.turn }}"}}}
  my_kind: {value: "{{ {'kind': b.b_facts.text ~ a_facts.text} }}"}"""
    plan = load_flow(write(folder, includes))
    assert [node.name for node in plan.nodes] == ["a_facts", "b", "my_kind"]
    assert plan.constants["a_tone"] == 7


def test_what_is_included_is_part_of_what_a_run_is_known_by(folder: Path) -> None:
    path = write(folder)
    before = load_flow(path)
    (folder / "facts.md").write_text("Be {{ tone }} and brief: {{ row.text }}\n")
    assert load_flow(path) != before


def test_flows_may_include_what_includes_steps(folder: Path) -> None:
    (folder / "more.yaml").write_text("nodes: {inner: {include: {flow: steps.yaml, nodes: [facts], prefix: in_}}}")
    includes = """
  a: {include: {flow: more.yaml}}
  my_kind: {value: "{{ {'kind': in_facts.text} }}"}"""
    assert [node.name for node in load_flow(write(folder, includes)).nodes] == ["in_facts", "my_kind"]


@pytest.mark.parametrize(
    ("includes", "what", "place"),
    [
        ("  s: {include: {flow: steps.yaml, nodes: [fact]}}", "steps.yaml has no step 'fact'", "flow.yaml:7:43"),
        ("  s: {include: {flow: steps.yaml, with: {ton: x}}}", "steps.yaml has no constant 'ton'", "flow.yaml:7:42"),
        ("  s: {include: {flow: no.yaml}}", "the flow cannot be read", "flow.yaml:7:23"),
        ("  s: {include: {flow: ../x.yaml}}", "is not in the folder of this one", "flow.yaml:7:23"),
        ("  s: {include: steps.yaml}", "'include' must be a mapping", "flow.yaml:7:16"),
        ("  s: {include: {flow: steps.yaml, nods: []}}", "unknown key 'nods' in 'include'", "flow.yaml:7:35"),
        ("  s: {include: {flow: steps.yaml}, when: x}", "'when' cannot stand beside 'include'", "flow.yaml:7:36"),
        ("  s: {include: {flow: circle.yaml}}", "in a circle: circle.yaml -> circle.yaml", "circle.yaml:1:29"),
        ("  s: {include: {flow: list.yaml}}", "a flow must be a mapping", "list.yaml:1:1"),
        ("  s: {include: {flow: steps.yaml, prefix: my_}}", "there is no engine 'remote'", "steps.yaml:14:19"),
        ("  s: {include: {flow: steps.yaml, nodes: [kind], prefix: my_}}", "unknown name 'facts'", "steps.yaml:11"),
        ("  s: {include: {flow: column.yaml, prefix: my_}}", "unknown name 'rov'", "column.yaml:3:42"),
        (
            "  facts: {value: x}\n  s: {include: {flow: steps.yaml, nodes: [facts]}}",
            "the name 'facts' is taken by a step",
            "flow.yaml:8:3",
        ),
        (
            "  s: {include: {flow: steps.yaml, with: {labels: {file: no.json}}}}",
            "the file 'no.json' is not there",
            "flow.yaml:7:57",
        ),
        ("  s: {include: {flow: gone.yaml}}", "the file 'no.json' is not there", "gone.yaml:1:28"),
        ("  s: {include: {flow: set.yaml, prefix: my_}}", "cannot be changed for certain", "set.yaml:3:14"),
    ],
)
def test_what_is_wrong_is_told_where_it_was_written(folder: Path, includes: str, what: str, place: str) -> None:
    (folder / "circle.yaml").write_text("nodes: {a: {include: {flow: circle.yaml}}}")
    (folder / "list.yaml").write_text("- a")
    (folder / "gone.yaml").write_text("constants: {labels: {file: no.json}}\nnodes: {a: {value: x}}\n")
    (folder / "column.yaml").write_text('nodes:\n  kind:\n    llm: {engine: local, prompt: "Say {{ rov.text }}"}\n')
    text = 'nodes:\n  a: {value: x}\n  b: {value: "{% set a = a %}{{ a }}"}\n'
    (folder / "set.yaml").write_text(text)
    with pytest.raises(FlowError) as raised:
        load_flow(write(folder, includes))
    lines = str(raised.value).splitlines()
    found = [line for line in lines if what in line]
    assert found, lines
    assert f"{place}" in found[0]
    assert isinstance(raised.value.where, Location)
