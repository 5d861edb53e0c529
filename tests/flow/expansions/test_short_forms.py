"""`classify` and `extract`: the steps that they stand for, and what a run of them gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

import sundog as sd
from sundog.flow.example import example_plan
from sundog.ir.logical import Step
from sundog.operators.llm import LLMSpec


def step_of(node: str) -> tuple[Step, LLMSpec]:
    """Return the step of a node, and what it asks."""
    (step,) = cast(tuple[Step], example_plan(f"nodes: {{one: {node}}}\noutputs: {{id: '{{{{ row.id }}}}'}}").nodes)
    return step, cast(LLMSpec, step.spec)


def same(short: str, long: dict[str, Any]) -> bool:
    """Return whether a short form is the plan of an llm step that was written in full."""
    return step_of(short) == step_of(json.dumps({"llm": {"engine": "local", **long}}))


TEXT = 'engine: local, text: "{{ row.text }}"'


def test_a_label_is_one_of_a_list() -> None:
    asked = "Which of these labels fits the text best?\n\n- good\n- bad\n\nText:\n{{ row.text }}"
    assert same(
        f"{{classify: {{{TEXT}, labels: [good, bad]}}}}", {"prompt": asked, "output": {"label": ["good", "bad"]}}
    )


def test_meanings_are_templates_and_labels_keep_their_types() -> None:
    labels = 'labels: {good: "like {{ row.x }}", bad: not}'
    short = f'{{classify: {{{TEXT}, {labels}, prompt: "Is it, {{{{ row.y }}}}?"}}}}'
    asked = "Is it, {{ row.y }}?\n\n- good: like {{ row.x }}\n- bad: not\n\nText:\n{{ row.text }}"
    assert same(short, {"prompt": asked, "output": {"label": ["good", "bad"]}})
    _, spec = step_of(f"{{classify: {{{TEXT}, labels: [1, 2.5, true, one]}}}}")
    assert spec.output is not None
    assert json.loads(spec.output.text)["properties"]["label"]["enum"] == [1, 2.5, True, "one"]


def test_what_an_llm_step_takes_goes_through() -> None:
    more = 'system: "Be just.", max_tokens: 5, temperature: 0.5, seed: 2, stop: ["."], samples: 3'
    step, spec = step_of(f"{{classify: {{{TEXT}, labels: [good, bad], {more}}}, retries: 1}}")
    assert (step.retries, step.operator, step.for_each is not None) == (1, "llm", True)
    assert (spec.max_tokens, spec.temperature, spec.seed, spec.stop, spec.samples) == (5, 0.5, 2, (".",), 3)
    assert spec.system is not None
    _, spec = step_of(f"{{extract: {{{TEXT}, fields: {{a: str}}, temperature: null}}}}")
    assert spec.temperature is None


def test_several_labels_are_a_list_of_at_most_all(tmp_path: Path) -> None:
    _, spec = step_of(f"{{classify: {{{TEXT}, labels: [a, b, c], many: true}}}}")
    assert spec.output is not None
    several = {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3}
    assert json.loads(spec.output.text)["properties"] == {"labels": several}


@pytest.mark.parametrize(
    "fields",
    [
        {"a": "str", "b": [{"c": "float"}]},
        {"json_schema": {"type": "object", "properties": {"a": {"type": "integer"}}}},
    ],
)
def test_fields_are_the_form_of_the_answer(fields: dict[str, Any]) -> None:
    shown = json.dumps(fields.get("json_schema", fields))
    asked = f"Extract these fields from the text.\n\nFields: {shown}\n\nText:\n{{{{ row.text }}}}"
    assert same(f"{{extract: {{{TEXT}, fields: {json.dumps(fields)}}}}}", {"prompt": asked, "output": fields})


def test_a_prompt_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "ask.md").write_text("How does {{ row.name }} like it?\n")
    flow = sd.Flow("f", base_dir=tmp_path)
    flow.engine("local", kind="null")
    row = flow.input("rows", rows=[{"name": "Ann", "text": "Great!"}])
    flow.classify("mood", engine="local", text=row.text, labels=["glad", "sad"], prompt=sd.prompt_file("ask.md"))
    flow.output(name=row.name)
    (step,) = cast(tuple[Step], flow.plan().nodes)
    assert str(cast(LLMSpec, step.spec).prompt).startswith("How does {{ row.name }} like it?\n\n- glad")


def test_a_run_gives_labels_and_fields(tmp_path: Path) -> None:
    """They have the types of a table's columns, also in a loop and as an agent's tool."""
    flow = sd.Flow("f", base_dir=tmp_path)
    flow.engine("local", kind="null")
    flow.input("rows", rows=[{"id": n, "text": f"text {n}"} for n in range(3)])
    read = flow.table("read", source="rows")
    kind = read.classify("kind", engine="local", text=read.row.text, labels={"good": "nice", "bad": "not"})
    about = read.classify("about", engine="local", text=read.row.text, labels=["a", "b"], many=True)
    with read.loop("again", max_turns=2) as again:
        again.extract("facts", engine="local", text=read.row.text, fields={"mg": "float"})
    read.output(kind=kind.label, about=about.labels, mg=again.value.facts.mg)
    flow.table("counted", query="select kind, len(about) as n, mg * 2 as mg from read")
    rows = list(flow.run(state=tmp_path / "state", progress=False))
    assert {row["kind"] for row in rows} <= {"good", "bad"}
    assert all(row["n"] <= 2 and isinstance(row["mg"], float) for row in rows)
    assert len(rows) == 3
