"""What engines are told of a call."""

from __future__ import annotations

import json

import pytest

import sundog as sd
from sundog.engines.base import Message
from sundog.ir.physical import PhysicalPlan
from sundog.operators.base import OPERATORS
from sundog.optimizer.planner import plan_physical
from sundog.runtime.about import Outlook, about, outlooks
from sundog.vllm_plugin.envelope import read_envelope

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
    found = outlooks(planned().nodes)
    assert found["think"] == Outlook(1, "look")
    assert found["answer"] == found["judge"] == Outlook(0)


@pytest.mark.parametrize("outlook", [Outlook(0), Outlook(3, "look"), Outlook(0, may_repeat=True)])
def test_the_plugin_can_read_it(outlook: Outlook) -> None:
    said = about("f", "run/1", "n", 2, outlook, PROMPT)
    envelope = read_envelope({"sundog": json.dumps(said)})
    assert envelope is not None
    assert (envelope.flow, envelope.workflow, envelope.node, envelope.turn) == ("f", "run/1", "n", 2)
    assert envelope.last_turn == (outlook == Outlook(0))
    assert envelope.tool == outlook.tool
    assert envelope.remaining_steps == {True: None, False: max(1, outlook.remaining_steps)}[envelope.last_turn]


def test_a_prefix_group_is_of_equal_beginnings() -> None:
    groups = [
        about("f", "w", "n", 0, Outlook(0), (Message("user", text),)).get("prefix_group")
        for text in ("a" * 200 + "b", "a" * 200 + "c", "d" * 200, "short")
    ]
    assert groups[0] == groups[1] != groups[2]
    assert groups[3] is None
