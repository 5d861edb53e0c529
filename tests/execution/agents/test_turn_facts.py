"""The facts of an agent's turns that an engine is told: from the plan alone, and with what earlier runs have shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.cost.history import MAX_TOLD_TURN, NodeRecord, ended_share, likeliest_tool, turns_to_come
from sundog.engines.base import ENGINES, Message
from sundog.measured.node_history import read_history
from tests.execution.agents.scripted_agent import STAGE, Answer, ScriptedKind, Stage, num_answers

NUM_ROWS = 12
FLOW = """
name: desk
engines: {model: {kind: scripted, model: m, tool_calls: FORM}}
inputs: {rows: rows.csv}
tools:
  look: {description: Look it up., parameters: {id: int}, python: {call: "desk:look", args: {id: "{{ args.id }}"}}}
  pay: {description: Pay it., parameters: {id: int}, python: {call: "desk:pay", args: {id: "{{ args.id }}"}}}
  think: {description: Think., parameters: {id: int}, llm: {engine: model, prompt: "Think of {{ args.id }}"}}
nodes:
  help:
    agent: {engine: model, prompt: "{{ row.id }}", OPTIONS}
MORE
outputs: {said: "{{ help }}"}
"""
HINTS = ("tool", "tool_share", "expected_pause_s")


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    monkeypatch.setitem(ENGINES._loaded, "scripted", ScriptedKind)
    monkeypatch.setattr(STAGE, "requests", [])
    monkeypatch.setattr(STAGE, "reads_about", True)
    (tmp_path / "rows.csv").write_text("id\n" + "".join(f"{number}\n" for number in range(NUM_ROWS)))
    (tmp_path / "desk.py").write_text("def look(id):\n    return id\n\n\ndef pay(id):\n    return -id\n")
    return STAGE


def told(
    stage: Stage,
    folder: Path,
    script: Any,
    *,
    options: str = "tools: [look, pay]",
    more: str = "",
    form: str = "native",
) -> dict[int, list[dict[str, Any]]]:
    """Return what a run tells of the turns of all rows, by the number of answers before."""
    text = FLOW.replace("OPTIONS", options).replace("MORE", more).replace("FORM", form)
    if "more:" in more:
        text = text.replace("{{ help }}", "{{ [help, more] }}")
    (folder / "flow.yaml").write_text(text)
    stage.requests.clear()
    stage.script = script if form == "native" else constrained(script)
    result = sd.run(folder / "flow.yaml", state=folder / "state", fresh=True)
    assert result.report.num_failed == 0
    found: dict[int, list[dict[str, Any]]] = {}
    for request in stage.requests:
        if request.about["node"] == "help__turn":
            found.setdefault(num_answers(request.messages), []).append(dict(request.about))
    return found


def constrained(script: Any) -> Any:
    """Return the script whose answers are written in the constrained form."""

    def answer(messages: Sequence[Message]) -> str:
        said = script(messages)
        if isinstance(said, str):
            return json.dumps({"tool": "final", "answer": said})
        ((name, args),) = said
        return json.dumps({"tool": name, "args": args})

    return answer


def row_of(messages: Sequence[Message]) -> int:
    return int(next(message.content.split()[-1] for message in messages if message.role == "user"))


def mostly_look(messages: Sequence[Message]) -> Answer:
    """Look at three of four rows and pay the others, then answer."""
    if num_answers(messages):
        return "done"
    row = row_of(messages)
    return [("pay" if row % 4 == 0 else "look", {"id": row})]


@pytest.mark.parametrize("form", ["native", "constrained"])
def test_earlier_runs_tell_the_tool_its_time_and_the_last_turn(stage: Stage, tmp_path: Path, form: str) -> None:
    first = told(stage, tmp_path, mostly_look, form=form)
    assert [len(first[number]) for number in (0, 1)] == [NUM_ROWS, NUM_ROWS]
    for number in (0, 1):
        for about in first[number]:
            assert (about["turn"], about["last_turn"], about["steps_to_next_use"]) == (number, False, 1)
            assert not [name for name in HINTS if name in about], "nothing is known yet"
    history = read_history(tmp_path / "state", "desk")
    second = told(stage, tmp_path, mostly_look, form=form)
    for about in second[0]:
        assert (about["last_turn"], about["remaining_steps"]) == (False, 1)
        assert (about["tool"], about["tool_share"]) == ("help__look", 0.75)
        assert about["expected_pause_s"] == history["help__look", ""].call_s.mean > 0
    for about in second[1]:
        assert about["last_turn"] is True
        assert not [name for name in (*HINTS, "steps_to_next_use", "remaining_steps") if name in about]


@pytest.mark.parametrize(
    ("options", "more", "last"),
    [
        ("tools: [look], max_turns: 3", "", [False, False, True]),
        ("tools: [look], max_turns: 2, output: {n: int}", "", [False, False, True]),
        # A tool that the last turn calls runs all the same, and this one asks the same engine.
        ("tools: [look, think], max_turns: 2", "", [False, False]),
        # These turns are the last ones of their conversation, but not of their row.
        (
            "tools: [look], max_turns: 2",
            '  more: {llm: {engine: model, prompt: "{{ help.turns }} {{ row.id }}"}}',
            [False, False],
        ),
        ("tools: [look], max_turns: 2", '    for_each: "{{ [1, 2] }}"', [False, False]),
    ],
)
def test_the_last_turn_that_is_allowed_is_told(
    stage: Stage, tmp_path: Path, options: str, more: str, last: list[bool]
) -> None:
    def script(messages: Sequence[Message]) -> Answer:
        if not stage.requests[-1].tools:
            return '{"n": 1}'
        return [("look", {"id": 100 * row_of(messages) + num_answers(messages)})]

    found = told(stage, tmp_path, script, options=options, more=more)
    assert [{about["last_turn"] for about in found[number]} for number in sorted(found)] == [{one} for one in last]


def test_turns_of_a_loop_count_as_turns(stage: Stage, tmp_path: Path) -> None:
    more = """  again:
    loop:
      max_turns: 2
      nodes: {think_on: {llm: {engine: model, prompt: "{{ help.turns }} {{ loop.turn }} {{ row.id }}"}}}
"""
    told(stage, tmp_path, lambda messages: "done", more=more.rstrip().replace("again:", "more:"))
    turns = [one.about["turn"] for one in stage.requests if one.about["node"] == "think_on"]
    assert sorted(set(turns)) == [min(turns), min(turns) + 1]


def test_nothing_is_said_of_what_too_few_conversations_tell() -> None:
    turns, tools = NodeRecord(), {"a": NodeRecord(), "b": None}
    for number in range(9):
        turns.num_turns.add(2)
        tools["a"].after_turns.add(1)  # type: ignore[union-attr]  # of the record above
        assert [ended_share(turns, 2), likeliest_tool(turns, tools, 1), turns_to_come(turns, 1)] == [None] * 3, number
    turns.num_turns.add(4)
    assert (ended_share(turns, 2), ended_share(turns, 4)) == (0.9, None)
    assert turns_to_come(turns, 1) == pytest.approx(1.2)
    assert likeliest_tool(turns, tools, 1) == ("a", 0.9)
    assert likeliest_tool(turns, tools, 2) is None, "no tool was used then"
    assert [ended_share(None, 1), likeliest_tool(None, {}, 1), turns_to_come(None, 1)] == [None] * 3


def test_turns_are_told_apart_as_far_as_is_said() -> None:
    turns = NodeRecord()
    for number in range(1, MAX_TOLD_TURN + 10):
        for _ in range(10):
            turns.num_turns.add(number)
    for number in range(1, MAX_TOLD_TURN + 1):
        assert turns.num_turns.near(number) == 10
    assert ended_share(turns, MAX_TOLD_TURN) == pytest.approx(1 / 10)
    assert ended_share(turns, MAX_TOLD_TURN + 1) is None
