"""Agents that hand a part to another: what the inner one is asked, what the outer one is told, and what is kept."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.engines.base import ENGINES, Message
from sundog.errors import AnswersAwaited, BadResponse, PromptTooLong
from sundog.execution.calls import attempt
from sundog.measured.node_history import read_history
from sundog.runtime.answers import open_questions
from sundog.runtime.kept_conversations import conversations_of
from tests.execution.agents.scripted_agent import STAGE, Answer, ScriptedKind, Stage, found_steps, num_answers, told

FLOW = """
name: desk
engines:
  model: {kind: scripted, model: m, tool_calls: FORM, price: {input_usd_per_mtok: 1000, output_usd_per_mtok: 1000}}
  small: {kind: scripted, model: s, price: {input_usd_per_mtok: 100, output_usd_per_mtok: 100}}
inputs: {mails: mails.csv}
tools:
  research:
    description: Find out something about the customer.
    parameters: {question: str}
    agent:
      engine: model
      system: You look things up.
      prompt: "{{ args.question }}"
      tools: [orders, note, ask]
      max_turns: 3
OPTIONS
  orders:
    description: List the customer's orders.
    parameters: {shop: str}
    sql:
      database: "sqlite:///shop.db"
      query: "select item from orders where customer = :customer"
      params: {customer: "{{ row.customer }}"}
  note:
    description: Write down a note.
    parameters: {text: str}
    sql: {database: "sqlite:///log.db", query: "insert into notes values (:text)", params: {text: "{{ args.text }}"}}
  ask: {description: Ask a person., parameters: {question: str}, human: true}
  boss: {description: Ask the boss., parameters: {}, agent: {engine: model, prompt: Boss?, tools: [research]}}
  quick:
    description: Ask another model.
    parameters: {question: str}
    llm: {engine: small, prompt: "Quickly: {{ args.question }}"}
  break: {description: Break it., python: {call: "broken:break_it", effect: true}}
nodes:
  help:
    agent:
      engine: model
      prompt: "{{ row.mail }}"
      tools: [TOOLS]
OUTER
outputs: {text: "{{ help.text }}", stopped: "{{ help.stopped }}", said: "{{ help.messages }}"}
"""
Inner = Callable[[Sequence[Message]], Answer]


@pytest.fixture(params=["native", "constrained"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    monkeypatch.setitem(ENGINES._loaded, "scripted", ScriptedKind)
    monkeypatch.setattr(STAGE, "requests", [])
    (tmp_path / "mails.csv").write_text("customer,mail\nann,What did I order?\n")
    (tmp_path / "broken.py").write_text("def break_it():\n    raise ValueError('half of it')\n")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop, shop:
        shop.execute("create table orders (customer text, item text)")
        shop.execute("insert into orders values ('ann', 'lamp'), ('bob', 'rug')")
    with closing(sqlite3.connect(tmp_path / "log.db")) as log, log:
        log.execute("create table notes (text text)")
    return STAGE


def conversations(*inner: Answer, outer: Sequence[Answer] = (), then: Sequence[Answer] = ()) -> Inner:
    """Let the outer agent hand its question on and say what it was told; the inner one answers one by one. `outer`: the
    outer one's answers, where they are others."""

    def script(messages: Sequence[Message]) -> Answer:
        number = num_answers(messages)
        if any(message.text.startswith("You look things up.") for message in messages[:1]):
            return inner[min(number, len(inner) - 1)]
        if outer:
            return outer[min(number, len(outer) - 1)]
        return [("research", {"question": "Which orders?"})] if not number else f"told: {messages[-1].text}"

    return script


def in_form(script: Inner, form: str) -> Inner:
    """Return a script whose answers are of the form in which the engine is asked."""

    def constrained(messages: Sequence[Message]) -> Answer:
        answer = script(messages)
        if isinstance(answer, list):
            ((tool, args),) = answer
            return json.dumps({"tool": tool, "args": args})
        return json.dumps({"tool": "final", "answer": answer}) if isinstance(answer, str) else answer

    return script if form == "native" else constrained


def run(
    folder: Path,
    script: Inner,
    *,
    form: str = "native",
    options: str = "",
    outer: str = "",
    tools: str = "research",
    **more: Any,
) -> Any:
    STAGE.script = in_form(script, form)
    text = FLOW.replace("FORM", form).replace("TOOLS", tools)
    path = folder / "flow.yaml"
    path.write_text(
        text.replace("OPTIONS", f"      {options}" if options else "").replace(
            "OUTER", f"      {outer}" if outer else ""
        )
    )
    return sd.run(path, state=folder / "state", **more)


def notes(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "log.db")) as log:
        return [text for (text,) in log.execute("select text from notes")]


ORDERS: Answer = [("orders", {"shop": "all"})]
NOTE: Answer = [("note", {"text": "asked"})]


def test_the_inner_agent_works_and_the_outer_one_is_told(stage: Stage, tmp_path: Path, form: str) -> None:
    result = run(tmp_path, conversations(ORDERS, NOTE, "A lamp."), form=form)
    (row,) = result
    assert told(row) == ["A lamp."]
    assert row["stopped"] == "answer"
    assert notes(tmp_path) == ["asked"]
    assert {one.node: one.num_asked for one in result.report.nodes if one.num_asked} == {
        "help__turn": 2,
        "help__research__turn": 3,
        "help__research__orders": 1,
        "help__research__note": 1,
    }
    inner = stage.requests[1]
    assert [message.text for message in inner.messages if message.role == "user"] == ["Which orders?"]
    if form == "native":
        assert row["text"] == "told: A lamp."
        assert [tool.name for tool in inner.tools] == ["orders", "note", "ask"]
        assert [tool.name for tool in stage.requests[0].tools] == ["research"]
        assert '[{"item":"lamp"}]' in [message.text for message in stage.requests[2].messages], "and no rug of bob's"


def test_fields_are_told_as_json(stage: Stage, tmp_path: Path) -> None:
    (row,) = run(tmp_path, conversations('{"items": 1}'), options="output: {items: int}")
    assert told(row) == ['{"items":1}']


@pytest.mark.parametrize(
    ("answers", "options", "says"),
    [
        ([ORDERS], "max_repeats: 9", "error: it ended without an answer (max_turns, after 3 turns)"),
        ([ORDERS], "max_repeats: 2", "error: it ended without an answer (repeats, after 2 turns)"),
        ([ORDERS], "limits: {tokens: 1}", "error: it ended without an answer (tokens, after 1 turn)"),
        ([ORDERS, PromptTooLong("long")], "", "error: it ended without an answer (context, after 1 turn)"),
        ([PromptTooLong("long")], "", "error: long"),
        ([BadResponse("no answer")], "", "error: no answer"),
        ([ORDERS, BadResponse("no answer")], "", "error: no answer"),
        ([[("orders", {"shop": 7})], "So."], "", "So."),
        ([ORDERS, ORDERS, ORDERS, '{"items": 2}'], "max_repeats: 9, output: {items: int}", '{"items":2}'),
    ],
)
def test_an_inner_agent_without_an_answer_is_told(
    stage: Stage, tmp_path: Path, answers: list[Answer], options: str, says: str
) -> None:
    lines = options.replace(", output", "\n      output")
    (row,) = run(tmp_path, conversations(*answers), options=lines)
    assert told(row) == [says]
    assert row["stopped"] == "answer", "the outer one goes on"


@pytest.mark.parametrize("inner", [[BadResponse("no answer")], [ORDERS, PromptTooLong("long")], [ORDERS]])
def test_what_the_outer_agent_was_told_stays(stage: Stage, tmp_path: Path, inner: list[Answer]) -> None:
    """The outer agent's second turn fails, and is asked again when the inner one would do better."""
    ask = [("research", {"question": "Which orders?"})]
    failing = conversations(*inner, outer=[ask, BadResponse("gone")])
    assert run(tmp_path, failing, options="max_repeats: 2").report.num_failed == 1
    num_asked = len(stage.requests)
    (row,) = run(tmp_path, conversations(ORDERS, "A lamp."), options="max_repeats: 2", retry_failed=True)
    assert told(row)[0].startswith("error: ")
    assert len(stage.requests) == num_asked + 1, "the inner conversation is kept, its failure too"


def test_an_effect_of_unknown_outcome_fails_the_row(stage: Stage, tmp_path: Path) -> None:
    text = FLOW.replace("[orders, note, ask]", "[break]")
    path = tmp_path / "flow.yaml"
    path.write_text(
        text.replace("FORM", "native").replace("TOOLS", "boss").replace("OPTIONS\n", "").replace("OUTER\n", "")
    )

    def script(messages: Sequence[Message]) -> Answer:
        if messages[0].text == "You look things up.":
            return [("break", {})]
        return [("research", {"question": "?"})] if messages[0].text == "Boss?" else [("boss", {})]

    stage.script = script
    result = sd.run(path, state=tmp_path / "state")
    assert result.report.num_failed == 1
    assert result.errors[0]["node"] == "help"
    assert "half of it" in result.errors[0]["cause"]
    assert len(stage.requests) == 3, "no model is told"


def test_equal_inner_conversations_are_one_but_for_effects(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "mails.csv").write_text("customer,mail\nann,What did I order?\nann,And what did I order?\n")
    result = run(tmp_path, conversations(ORDERS, NOTE, "A lamp."))
    assert [told(row) for row in result] == [["A lamp."], ["A lamp."]]
    executed = {one.node: (one.num_asked, one.num_executed) for one in result.report.nodes}
    assert executed["help__turn"] == (4, 4)
    assert executed["help__research__turn"] == (6, 3)
    assert executed["help__research__note"] == (2, 2)
    assert notes(tmp_path) == ["asked", "asked"]


def test_two_agents_one_inside_the_other(stage: Stage, tmp_path: Path) -> None:
    def script(messages: Sequence[Message]) -> Answer:
        if num_answers(messages):
            return f"{messages[0].text[:4]} heard {messages[-1].text}"
        if messages[0].text == "You look things up.":
            return NOTE
        return [("research", {"question": "?"})] if messages[0].text == "Boss?" else [("boss", {})]

    (row,) = run(tmp_path, script, tools="boss, research")
    assert row["text"] == 'What heard Boss heard You  heard [{"num_rows":1}]'
    assert notes(tmp_path) == ["asked"]


def test_a_finished_run_asks_nothing_again(stage: Stage, tmp_path: Path, form: str) -> None:
    script = conversations(ORDERS, NOTE, "A lamp.")
    first = list(run(tmp_path, script, form=form))
    num_asked = len(stage.requests)
    assert list(run(tmp_path, script, form=form)) == first
    assert (len(stage.requests), notes(tmp_path)) == (num_asked, ["asked"])


def test_a_person_asked_by_an_inner_agent_is_waited_for(stage: Stage, tmp_path: Path) -> None:
    script = conversations([("ask", {"question": "Is it a lamp?"})], "It is.")
    with pytest.raises(AnswersAwaited):
        run(tmp_path, script)
    num_asked = len(stage.requests)
    with open_questions(tmp_path / "state", "last") as questions:
        (open_one,) = questions
        assert (open_one.path, open_one.question) == (
            "help.1/help__research[0].1/help__research__ask[0]",
            "Is it a lamp?",
        )
        questions.answer("0", "yes")
    (row,) = run(tmp_path, script)
    assert told(row) == ["It is."]
    assert len(stage.requests) == num_asked + 2, "the inner conversation goes on at the turn"


def test_seconds_of_the_outer_agent_count_the_inner_ones_calls(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "monotonic", lambda: 10.0 * len(stage.requests))
    outer: list[Answer] = [[("research", {"question": f"{number}?"})] for number in range(9)]
    (row,) = run(tmp_path, conversations(ORDERS, "A lamp.", outer=outer), outer="limits: {seconds: 60}")
    assert (row["stopped"], len(told(row))) == ("seconds", 2), "thirty seconds with each turn of the outer one"


@pytest.mark.parametrize(
    ("tool", "limits", "stopped"),
    [
        ("research", "tokens: 60", "tokens"),
        ("research", "tokens: 91", "max_turns"),
        ("research", "usd: 0.06", "usd"),
        ("research", "usd: 0.091", "max_turns"),
        ("quick", "tokens: 60", "tokens"),
        ("quick", "usd: 0.035", "usd"),
        ("quick", "usd: 0.037", "max_turns"),
    ],
)
def test_tokens_and_dollars_of_the_outer_agent_count_what_its_tools_ask(
    stage: Stage, tmp_path: Path, tool: str, limits: str, stopped: str
) -> None:
    """Each call of a model has fifteen tokens. An inner agent needs two, and of the quick tool there are two uses
    a turn, on an engine that costs a tenth: 90 tokens in two turns, 0.09 and 0.036 dollars."""
    num_uses = 1 if tool == "research" else 2
    outer: list[Answer] = [[(tool, {"question": f"{number} {use}?"}) for use in range(num_uses)] for number in range(9)]
    script = conversations(ORDERS, "A lamp.", outer=outer)

    def answer(messages: Sequence[Message]) -> Answer:
        return "quick" if messages[0].text.startswith("Quickly") else script(messages)

    (row,) = run(tmp_path, answer, tools=tool, outer=f"max_turns: 2\n      limits: {{{limits}}}")
    assert (row["stopped"], len(told(row))) == (stopped, 2 * num_uses)


def test_explain_shows_and_counts_the_inner_agent(stage: Stage, tmp_path: Path) -> None:
    run(tmp_path, conversations("A lamp."), outer="max_turns: 4")
    document = json.loads(str(sd.explain(tmp_path / "flow.yaml", format="json", state=tmp_path / "other")))
    text = str(sd.explain(tmp_path / "flow.yaml", state=tmp_path / "other"))
    assert "AgentExec help__research: at most 3 turns" in text
    assert "help__research__note" in json.dumps(document)
    expected = {
        step["name"]: step["estimate"]["num_asked"]["expected"] for step in found_steps(document) if step["estimate"]
    }
    assert expected["help__research__turn"] > 0
    assert expected["help__research__note"] > 0


def test_both_conversations_are_kept_and_the_time_of_the_inner_one(stage: Stage, tmp_path: Path) -> None:
    run(tmp_path, conversations([("orders", {})], "a lamp"))
    found = conversations_of(tmp_path / "state", "last", "0").kept.transcripts
    assert [(one.path, one.ended) for one in found] == [("help", "answer"), ("help.1/help__research[0]", "answer")]
    assert [one.content.text for one in found[0].said][-2:] == ["a lamp", "told: a lamp"]
    assert [(one.role, one.content.text) for one in found[1].said][-1] == ("assistant", "a lamp")
    history = read_history(tmp_path / "state", "desk")
    assert history["help__research", ""].call_s.count == history["help__research", ""].after_turns.near(1) == 1
    assert history["help__research", ""].call_s.total > 0
