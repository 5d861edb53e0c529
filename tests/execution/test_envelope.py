"""The facts of a call that engines are told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import sundog as sd
from sundog.batch.step_facts import call_facts
from sundog.engines.base import Message
from sundog.execution.calls.envelope import envelope
from sundog.ir.physical import PhysicalPlan
from sundog.operators.base import OPERATORS
from sundog.optimizer.planner import plan_physical
from sundog.sched.facts import CallFacts
from sundog.vllm_plugin.envelope import read_envelope

BEFORE_A_TOOL = CallFacts("f", "think", is_last_turn=False, tool="look", steps_to_next_use=1, num_remaining_steps=1)
PROMPT = (Message("user", "word " * 40),)


def planned() -> PhysicalPlan:
    """Two engines: one thinks, looks up and answers; the other judges, in a loop."""
    flow = sd.Flow("f")
    one = flow.engine("one", kind="null")
    row = flow.input("rows", rows=[{"id": 1}])
    think = flow.llm("think", engine=one, prompt=f"{row.id}")
    seen = flow.http("look", url="http://x/", params={"q": think.text})
    answer = flow.llm("answer", engine=one, prompt=f"{think.text} {seen.text}")
    other = flow.engine("other", kind="null")
    judged = flow.llm("judge", engine=other, prompt=f"{answer.text}")
    flow.output(judged=judged.text)
    logical = flow.plan()
    names = {node.operator for node in logical.nodes if hasattr(node, "operator")}
    return plan_physical(logical, {name: OPERATORS.get(name)(flow.base_dir) for name in names})


def test_the_plan_tells_what_follows() -> None:
    found = call_facts("f", planned().nodes)
    assert found["think"] == BEFORE_A_TOOL
    assert found["answer"] == CallFacts("f", "answer")
    assert found["judge"] == CallFacts("f", "judge")
    told = call_facts("f", planned().nodes, {"look": 1.5, "judge": 9.0})
    assert told == {**found, "think": replace(BEFORE_A_TOOL, expected_pause_s=1.5)}


@pytest.mark.parametrize(
    "facts", [CallFacts("f", "think"), BEFORE_A_TOOL, replace(BEFORE_A_TOOL, tool_share=0.75, expected_pause_s=1.5)]
)
def test_the_plugin_reads_the_same_facts(facts: CallFacts) -> None:
    said = envelope(facts, "run/1", 2, PROMPT)
    read = read_envelope({"sundog": json.dumps(said)})
    assert read is not None
    assert (read.workflow, read.turn) == ("run/1", 2)
    assert replace(read.facts(), prefix_group="") == facts


def test_a_prefix_group_is_of_equal_beginnings() -> None:
    groups = [
        envelope(CallFacts(), "w", 0, (Message("user", text),)).get("prefix_group")
        for text in ("a" * 200 + "b", "a" * 200 + "c", "d" * 200, "short")
    ]
    assert groups[0] == groups[1] != groups[2]
    assert groups[3] is None
