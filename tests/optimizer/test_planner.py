"""The planner's decisions that no rule makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sundog.flow.bind import bind
from sundog.ir.physical import CallExec
from sundog.operators.base import OPERATORS
from sundog.optimizer.planner import plan_physical
from tests.optimizer.bench import Nowhere

TWO = "{{ a.text }}{{ b.text }}"
LLM = {"engine": "e", "prompt": "{{ row.a }}"}
AFTER_A = {"engine": "e", "prompt": "{{ a.text }}"}


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ({"a": {"llm": LLM}, "b": {"llm": AFTER_A}}, {"a"}),
        ({"a": {"llm": LLM}, "b": {"llm": LLM}}, set()),
        (
            {"a": {"llm": LLM}, "v": {"value": "{{ a.text }}!"}, "b": {"llm": {"engine": "e", "prompt": "{{ v }}"}}},
            {"a"},
        ),
        ({"a": {"llm": LLM}, "b": {"llm": AFTER_A, "when": "{{ a.text }}"}}, set()),  # it may not come
        ({"a": {"llm": LLM}, "b": {"llm": {**AFTER_A, "engine": "other"}}}, set()),  # it asks elsewhere
        (
            # c waits for b too, which may take longer than a; and b for nothing else.
            {"a": {"llm": LLM}, "b": {"llm": LLM}, "c": {"llm": {"engine": "e", "prompt": TWO}}},
            set(),
        ),
        (
            {"a": {"llm": LLM}, "b": {"llm": AFTER_A}, "c": {"llm": {"engine": "e", "prompt": TWO}}},
            {"a", "b"},
        ),
        ({"a": {"llm": LLM, "for_each": "{{ [1, 2] }}"}, "b": {"llm": {"engine": "e", "prompt": "{{ a }}"}}}, set()),
    ],
)
def test_a_successor_comes_in_any_case_and_at_once(nodes: dict[str, Any], expected: set[str], tmp_path: Path) -> None:
    flow = {
        "name": "planned",
        "engines": {name: {"kind": "null"} for name in ("e", "other")},
        "inputs": {"rows": {"path": "rows.csv"}},
        "nodes": nodes,
        "outputs": {"a": "{{ a }}"},
    }
    plan = plan_physical(bind(flow, Nowhere(), base_dir=tmp_path), {"llm": OPERATORS.get("llm")(tmp_path)})
    assert {node.name for node in plan.nodes if isinstance(node, CallExec) and node.has_successor} == expected
