"""Flows that are tools: what their steps read, what the model is told, and what is kept."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.engines.base import ENGINES, Message
from sundog.errors import AnswersAwaited, BadResponse, FlowError
from sundog.runtime.answers import open_questions
from tests.execution.agents.scripted_agent import STAGE, Answer, ScriptedKind, Stage, found_steps, num_answers, told

FLOW = """
name: desk
engines: {model: {kind: scripted, model: m}}
inputs: {mails: mails.csv}
constants: {shop: Dawn}
tools:
  judge:
    description: Judge a text.
    parameters: {text: str, number: int}
    flow: {file: judge.yaml, with: {customer: "{{ row.customer }} ({{ args.number }})"}OUTPUT}
  note:
    description: Write down a note.
    parameters: {text: str}
    sql: {database: "sqlite:///log.db", query: "insert into notes values (:text)", params: {text: "{{ args.text }}"}}
nodes:
  help: {agent: {engine: model, prompt: "{{ row.mail }}", tools: [judge, note]}}
outputs: {text: "{{ help.text }}", stopped: "{{ help.stopped }}", said: "{{ help.messages }}"}
"""
JUDGE = """
name: judge
inputs: {texts: texts.csv}
constants: {tone: calm, customer: nobody, shop_of: "none"}
nodes:
  long: {require: {that: "{{ row.text | length > 2 }}", else: "the text '{{ row.text }}' is too short"}}
  gist: {llm: {engine: model, prompt: "Gist for {{ customer }}, {{ tone }}: {{ row.text }}"}}
  parts: {for_each: "{{ range(row.number) | list }}", as: part, llm: {engine: model, prompt: "Part {{ part }}"}}
  unread: {llm: {engine: model, prompt: "Nobody reads this: {{ row.text }}"}}
  sums: {value: "{{ parts | map(attribute='text') | join('+') }}"}
  kept:
    sql: {database: "sqlite:///log.db", query: "insert into notes values (:text)", params: {text: "{{ gist.text }}"}}
outputs: {gist: "{{ gist.text }}", sums: "{{ sums }}", number: "{{ row.number }}"}
"""
USE: Answer = [("judge", {"text": "a long text", "number": 2})]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    monkeypatch.setitem(ENGINES._loaded, "scripted", ScriptedKind)
    monkeypatch.setattr(STAGE, "requests", [])
    monkeypatch.chdir(tmp_path)
    Path("mails.csv").write_text("customer,mail\nann,Is it good?\n")
    with closing(sqlite3.connect("log.db")) as log, log:
        log.execute("create table notes (text text)")
    return STAGE


def run(
    *outer: Answer, judge: str = JUDGE, flow: str = FLOW, output: str = "", gist: Answer = "fine", **more: Any
) -> Any:
    """Return the result of the flow, whose agent answers one by one."""

    def script(messages: Sequence[Message]) -> Answer:
        asked = messages[0].text
        if asked.startswith("Is it"):
            return outer[min(num_answers(messages), len(outer) - 1)]
        return gist if asked.startswith("Gist") else asked.lower()

    STAGE.script = script
    Path("judge.yaml").write_text(judge)
    Path("flow.yaml").write_text(flow.replace("OUTPUT", output))
    return sd.run("flow.yaml", state="state", **more)


def notes() -> list[str]:
    with closing(sqlite3.connect("log.db")) as log:
        return [text for (text,) in log.execute("select text from notes")]


def prompts() -> list[str]:
    return [request.messages[0].text for request in STAGE.requests]


@pytest.mark.parametrize(
    ("output", "says"),
    [("", '{"gist":"fine","sums":"part 0+part 1","number":2}'), (", output: gist", "fine"), (", output: number", "2")],
)
def test_the_steps_run_for_the_arguments(stage: Stage, output: str, says: str) -> None:
    result = run(USE, "Good.", output=output)
    (row,) = result
    assert (told(row), row["text"]) == ([says], "Good.")
    assert "Gist for ann (2), calm: a long text" in prompts(), "a constant of the other flow is one of its own"
    assert notes() == ["fine"]
    asked = {one.node: one.num_asked for one in result.report.nodes if one.num_asked}
    parts = {} if output else {"help__judge__parts": 2}
    assert asked == {"help__turn": 2, "help__judge__gist": 1, "help__judge__kept": 1, **parts}, "and nothing unread"


def test_what_goes_wrong_is_told(stage: Stage) -> None:
    short: Answer = [("judge", {"text": "no", "number": 1})]
    (row,) = run(short, [("judge", {"text": "a text"})], USE, "So.", gist=BadResponse("gone"))
    assert told(row) == [
        "error: the text 'no' is too short",
        "error: the arguments do not fit the tool's parameters: $: 'number' is a required property",
        "error: gone",
    ]
    assert notes() == []


def test_a_failure_that_the_model_was_told_stays(stage: Stage) -> None:
    assert run(USE, BadResponse("later"), gist=BadResponse("gone")).report.num_failed == 1
    num_asked = len(stage.requests)
    (row,) = run(USE, "So.", retry_failed=True)
    assert told(row) == ["error: gone"]
    assert len(stage.requests) == num_asked + 1


def test_a_finished_run_does_nothing_again(stage: Stage) -> None:
    first = list(run(USE, "Good."))
    num_asked = len(stage.requests)
    assert list(run(USE, "Good.")) == first
    assert (len(stage.requests), notes()) == (num_asked, ["fine"])


def test_an_effect_of_unknown_outcome_fails_the_row(stage: Stage) -> None:
    Path("broken.py").write_text("def break_it():\n    raise ValueError('half of it')\n")
    broken = JUDGE.replace("  unread:", "  broken: {python: {call: 'broken:break_it', effect: true}}\n  unread:")
    result = run(USE, "Good.", judge=broken)
    assert result.errors[0]["node"] == "help"
    assert "half of it" in result.errors[0]["cause"]


def test_a_person_is_waited_for(stage: Stage) -> None:
    asks = JUDGE.replace("  unread:", "  boss: {human: {question: 'May {{ row.text }}?'}}\n  unread:")
    asks = asks.replace('number: "{{ row.number }}"', "boss: '{{ boss.text }}'")
    with pytest.raises(AnswersAwaited):
        run(USE, "Good.", judge=asks, output=", output: boss")
    with open_questions(Path("state"), "last") as questions:
        assert [(one.path, one.question) for one in questions] == [
            ("help.1/help__judge[0].1/help__judge__boss", "May a long text?")
        ]
        questions.answer("0", "yes")
    (row,) = run(USE, "Good.", judge=asks, output=", output: boss")
    assert told(row) == ["yes"]


WITH_AGENT = """
nodes:
  dig: {agent: {engine: model, prompt: "Dig {{ row.text }}", tools: [note]}}
  again:
    loop:
      max_turns: 2
      nodes: {draft: {llm: {engine: model, prompt: "Draft {{ loop.turn }} {{ loop.last.draft.text }} {{ dig.text }}"}}}
outputs: {all: "{{ dig.text }} {{ again.draft.text }}"}
constants: {customer: nobody}
"""


def test_it_may_have_agents_and_loops(stage: Stage) -> None:
    (row,) = run(USE, "Good.", judge=WITH_AGENT, output=", output: all")
    assert told(row) == ["dig a long text draft 2 draft 1  dig a long text dig a long text"]
    twice = FLOW.replace("nodes:\n", 'nodes:\n  two: {agent: {engine: model, prompt: "Is it?", tools: [judge]}}\n')
    with pytest.raises(FlowError, match="the name 'draft' is taken by a step"):
        run("Good.", judge=WITH_AGENT, flow=twice)


def test_two_agents_have_steps_of_their_own(stage: Stage) -> None:
    twice = FLOW.replace("nodes:\n", 'nodes:\n  two: {agent: {engine: model, prompt: "Is it?", tools: [judge]}}\n')
    (row,) = run(USE, "Good.", flow=twice.replace('text: "{{ help.text }}"', 'text: "{{ two.text }}"'))
    assert row["text"] == "Good."
    assert notes() == ["fine", "fine"], "each use has its own effect"
    assert prompts().count("Part 0") == 1, "equal calls are one"


def test_names_inside_are_no_names_outside(stage: Stage) -> None:
    """Steps, and elements of `for_each`, may have the names of steps of this flow."""
    flow = FLOW.replace("nodes:\n", 'nodes:\n  gist: {value: "outer"}\n  part: {value: "{{ gist }}"}\n')
    (row,) = run(USE, "Good.", flow=flow.replace('text: "{{ help.text }}"', 'text: "{{ part }}"'))
    assert told(row) == ['{"gist":"fine","sums":"part 0+part 1","number":2}']
    assert row["text"] == "outer"


def test_it_is_shown_and_counted(stage: Stage) -> None:
    run(USE, "Good.")
    text = str(sd.explain("flow.yaml", state="other"))
    assert "ToolFlowExec help__judge: judge.yaml" in text
    document = json.loads(str(sd.explain("flow.yaml", format="json", state="other")))
    (gist,) = [step["estimate"] for step in found_steps(document) if step["name"] == "help__judge__gist"]
    assert gist["num_asked"]["expected"] > 0
