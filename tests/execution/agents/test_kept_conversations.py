"""Conversations that runs keep, and what `sundog trace` and the page of `explain --analyze` show of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.engines.base import ENGINES, Message
from sundog.errors import AnswersAwaited, BadResponse
from sundog.execution import transcripts
from sundog.ir.conversations.transcript import RowTranscripts
from sundog.runtime.kept_conversations import conversations_of, num_conversations
from tests.cli.flows import Ran, sundog
from tests.execution.agents.scripted_agent import STAGE, Answer, ScriptedKind, num_answers, one_by_one

TOOLS = """
name: desk
engines: {model: {kind: scripted, model: m}}
inputs: {rows: rows.jsonl}
tools:
  look: {description: Look it up., parameters: {id: int}, python: {call: "desk:look", args: {id: "{{ args.id }}"}}}
  ask: {description: Ask the boss., parameters: {question: str}, human: true}
nodes:
"""
AGENT = """  help: {agent: {engine: model, prompt: "{{ row.q }}", tools: [look, ask], max_turns: 2}}
outputs: {text: "{{ help.text }}"}
"""
LOOP = """  talk:
    loop:
      max_turns: 3
      until: "{{ check }}"
      nodes:
        say: {llm: {engine: model, prompt: "{{ row.q }}"}}
        more:
          llm:
            engine: model
            messages:
              - {role: user, content: "{{ row.q }}"}
              - {from: "{{ said }}"}
        said: {value: "{{ [] if loop.turn == 1 else [{'role': 'user', 'content': 'Again?'}] }}"}
        check: {python: {call: "desk:is_enough", args: {turn: "{{ loop.turn }}"}}}
  chat: {llm: {engine: model, messages: "{{ row.chat }}"}}
  plain: {llm: {engine: model, prompt: "{{ row.q }}"}}
outputs: {text: "{{ [talk, chat, plain] }}"}
"""
DESK = """
def look(id):
    if id > 9:
        raise ValueError("no such order")
    return {"item": "lamp", "id": id}

def is_enough(turn):
    return turn == 2
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setitem(ENGINES._loaded, "scripted", ScriptedKind)
    monkeypatch.setattr(STAGE, "requests", [])
    (tmp_path / "desk.py").write_text(DESK)
    return tmp_path


def run(folder: Path, nodes: str, rows: Sequence[dict[str, Any]], *answers: Answer, **options: Any) -> None:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "flow.yaml").write_text(TOOLS + nodes)
    if answers:
        STAGE.script = one_by_one(*answers)
    sd.run(folder / "flow.yaml", state=folder / ".sundog", output=folder / "out.jsonl", **options)


def kept(folder: Path, row: str = "0") -> RowTranscripts:
    return conversations_of(folder / ".sundog", "last", row).kept


def trace(folder: Path, *options: str) -> Ran:
    return sundog(folder, "trace", "last", *options)


def said(row: RowTranscripts, path: str) -> list[tuple[Any, ...]]:
    """Return (turn, role, text) of all that was said in a conversation."""
    found = next(one for one in row.transcripts if one.path == path)
    return [(one.turn, one.role, one.content.text) for one in found.said]


def test_an_agents_conversation_is_kept_with_what_it_took(folder: Path) -> None:
    calls: Answer = [("look", {"id": 7}), ("look", {"id": 70}), ("find", {})]
    run(folder, AGENT, [{"q": "Where is it?"}], calls, "Here.")
    (transcript,) = kept(folder).transcripts
    assert (transcript.path, transcript.kind, transcript.ended) == ("help", "agent", "answer")
    assert said(kept(folder), "help") == [
        (0, "user", "Where is it?"),
        (1, "assistant", ""),
        (1, "tool", '{"item":"lamp","id":7}'),
        (1, "tool", "error: ValueError: no such order"),
        (1, "tool", "error: there is no tool 'find'; there are: look, ask"),
        (2, "assistant", "Here."),
    ]
    first = transcript.said[1]
    assert [(one.name, one.arguments.text) for one in first.calls] == [
        ("look", '{"id": 7}'),
        ("look", '{"id": 70}'),
        ("find", "{}"),
    ]
    assert [one.is_error for one in transcript.said[2:5]] == [False, True, True]
    assert first.figures is not None
    assert (first.figures.num_prompt_tokens, first.figures.num_output_tokens) == (10, 5)
    assert all(one.figures is not None and one.figures.seconds > 0 for one in transcript.said[1:4])
    text = trace(folder, "--row", "0").stdout
    assert "help: agent, 2 turns, stopped: answer\n20 prompt tokens, 10 output, " in text
    assert '  calls look\n    {"id": 70}\n\n  look fails (' in text
    assert "\x1b" not in text


def test_a_conversation_of_a_row_that_fails_is_kept_until_it_is_retried(folder: Path) -> None:
    run(folder, AGENT, [{"q": "Where?"}], [("look", {"id": 7})], BadResponse("no answer"))
    found = conversations_of(folder / ".sundog", "last", "0")
    assert found.state == "failed at help: BadResponse: no answer"
    assert [one.ended for one in found.kept.transcripts] == ["failed"]
    assert [role for _, role, _ in said(found.kept, "help")] == ["user", "assistant", "tool"]
    run(folder, AGENT, [{"q": "Where?"}], [("look", {"id": 7})], "Here.", retry_failed=True)
    assert [one.ended for one in kept(folder).transcripts] == ["answer"]
    assert "row 0 of run" in (text := trace(folder, "--row", "0").stdout)
    assert ": done\n" in text


def test_a_persons_part_is_told_before_and_after_the_answer(folder: Path) -> None:
    answers: list[Answer] = [[("look", {"id": 1}), ("ask", {"question": "Pay?"})], "Paid."]
    with pytest.raises(AnswersAwaited):
        run(folder, AGENT, [{"q": "Pay me."}], *answers)
    text = trace(folder, "--row", "0").stdout
    assert "has not ended" in text
    assert "help: agent, 1 turn, waits for a person" in text
    assert '  calls ask\n    {"question": "Pay?"}\n\n  ask has not answered\n    it waits for a person' in text
    assert sundog(folder, "answer", "last", "--row", "0", "--text", "yes", "--by", "ann").exit_code == 0
    run(folder, AGENT, [{"q": "Pay me."}])
    text = trace(folder, "--row", "0").stdout
    assert "  a person answers ask (ann, 2" in text
    assert "help: agent, 2 turns, stopped: answer" in text


def test_a_question_of_a_step_is_told(folder: Path) -> None:
    nodes = '  ok: {human: {question: "Pay {{ row.q }}?"}}\noutputs: {text: "{{ ok.text }}"}\n'
    with pytest.raises(AnswersAwaited):
        run(folder, nodes, [{"q": "7"}], "unused")
    assert sundog(folder, "answer", "last", "--row", "0", "--text", "no", "--by", "").exit_code == 0
    run(folder, nodes, [{"q": "7"}])
    assert said(kept(folder), "ok") == [(0, "ok", "Pay 7?"), (0, "ok", "no")]
    assert "ok: a person is asked\n" in trace(folder, "--row", "0").stdout


def test_turns_of_a_loop_and_messages_of_rows_are_kept(folder: Path) -> None:
    chat = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "?"},
    ]
    STAGE.script = lambda messages: f"{len(messages)} from {messages[-1].content}"
    run(folder, LOOP, [{"q": "Tell.", "chat": chat}])
    assert [one.path for one in kept(folder).transcripts] == ["chat", "talk"], "and of no plain call"
    assert said(kept(folder), "chat") == [
        (0, "user", "Hello"),
        (0, "assistant", "Hi"),
        (0, "user", "?"),
        (1, "assistant", "3 from ?"),
    ]
    turns = said(kept(folder), "talk")
    assert [turn for turn, *_ in turns] == sorted(turn for turn, *_ in turns)
    assert [(turn, role) for turn, role, text in turns if text == "Tell."] == [(1, "user")] * 2, "once for each step"
    assert [(turn, text) for turn, role, text in turns if role == "check"] == [(1, "false"), (2, "true")]
    assert [text for turn, role, text in turns if role == "user" and turn == 2] == ["Again?"]
    assert (2, "assistant", "2 from Again?") in turns


def test_a_step_that_stands_in_speaks_in_the_turn_of_the_other(folder: Path) -> None:
    def script(messages: Sequence[Message]) -> Answer:
        return BadResponse("no answer") if messages[0].content == "Tell 1" else f"told {messages[0].content}"

    STAGE.script = script
    nodes = """  talk:
    loop:
      max_turns: 2
      nodes:
        say:
          llm: {engine: model, prompt: "Tell {{ loop.turn }}", temperature: 1}
          retries: 0
          on_error: {value: {text: "nothing"}}
        check: {python: {call: "desk:is_enough", args: {turn: "{{ say.text | length }}"}}}
  chat: {llm: {engine: model, messages: "{{ row.chat }}"}, on_error: {value: {text: none}}}
outputs: {text: "{{ [talk, chat] }}"}
"""
    run(folder, nodes, [{"q": "x", "chat": [{"role": "user", "content": "Hello"}]}])
    assert [(one.path, one.kind) for one in kept(folder).transcripts] == [("chat", "llm"), ("talk", "loop")]
    assert said(kept(folder), "talk") == [
        (1, "check", "false"),
        (2, "user", "Tell 2"),
        (2, "assistant", "told Tell 2"),
        (2, "check", "false"),
    ]


def test_no_more_is_kept_than_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcripts, "MAX_TEXT", 10)
    monkeypatch.setattr(transcripts, "MAX_ROW", 25)
    monkeypatch.setattr(transcripts, "MAX_SAYINGS", 3)
    monkeypatch.setattr(transcripts, "MAX_TRANSCRIPTS", 2)
    nodes = AGENT.replace("max_turns: 2}}", 'max_turns: 2}\n    for_each: "{{ row.all }}"\n    as: one}').replace(
        'help: {agent: {engine: model, prompt: "{{ row.q }}"', 'help:\n    agent: {engine: model, prompt: "{{ one }}"'
    )
    nodes = nodes.replace("as: one}", "as: one").replace("{{ help.text }}", "{{ help }}")
    run(folder, nodes, [{"all": ["a" * 12, "b" * 12, "c" * 12]}], [("look", {"id": 7})], "Here.")
    found = kept(folder)
    assert [one.path for one in found.transcripts] == ["help[0]", "help[1]"]
    assert found.num_left_out == 1
    assert [one.num_left_out for one in found.transcripts] == [1, 1]
    assert found.transcripts[0].said[0].content.text == "a" * 10
    assert found.transcripts[0].said[0].content.num_left_out == 2
    assert sum(len(one.content.text) for one in found.transcripts[0].said + found.transcripts[1].said) <= 25


def test_rows_of_tables_are_named_with_their_table(folder: Path) -> None:
    nodes = """tables:
  asked:
    from: rows
    nodes: {help: {agent: {engine: model, prompt: "{{ row.q }}", tools: [look]}}}
    outputs: {text: "{{ help.text }}"}
  again:
    query: "select text from asked"
    nodes: {check: {agent: {engine: model, prompt: "{{ row.text }}", tools: [look]}}}
    outputs: {text: "{{ check.text }}"}
"""
    (folder / "rows.jsonl").write_text('{"q": "a"}\n{"q": "b"}\n')
    (folder / "flow.yaml").write_text(TOOLS.replace("nodes:\n", nodes))
    STAGE.script = lambda messages: f"about {messages[-1].content}"
    sd.run(folder / "flow.yaml", state=folder / ".sundog")
    assert said(kept(folder, "asked:1"), "help")[-1] == (1, "assistant", "about b")
    assert said(kept(folder, "again:1.0"), "check")[-1] == (1, "assistant", "about about b")
    hint = trace(folder, "--row", "1").stderr
    assert "rows that have some: again:0.0, again:1.0, asked:0, asked:1" in hint


def test_flows_without_conversations_keep_none(folder: Path) -> None:
    run(
        folder,
        '  plain: {llm: {engine: model, prompt: "{{ row.q }}"}}\noutputs: {t: "{{ plain.text }}"}\n',
        [{"q": "x"}],
        "y",
    )
    assert num_conversations(folder / ".sundog", "last") == 0
    ran = trace(folder)
    assert "conversations" not in ran.stderr
    assert "they are kept of agents, loops" in trace(folder, "--row", "0").stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--row", "7"), "row 7 has not ended in the run desk-"),
        (("--row", "desk:0"), "row desk:0 has not ended in the run desk-"),
        (("--row", "x"), "'x' is no row"),
        (("--row", "-1"), "'-1' is no row"),
        (("--row", "00"), "'00' is no row"),
        (("--full",), "--format and --full are of one row's conversations"),
        (("--format", "html"), "--format and --full are of one row's conversations"),
    ],
)
def test_what_is_not_there_is_told(folder: Path, options: tuple[str, ...], message: str) -> None:
    run(folder, AGENT, [{"q": "a"}], "Hello.")
    ran = trace(folder, *options)
    assert ran.exit_code == 2
    assert message in ran.stderr
    if "has not ended" in message:
        assert "rows that have some: 0" in ran.stderr


def test_a_trace_says_which_command_shows_what_was_said(folder: Path) -> None:
    run(folder, AGENT, [{"q": "a"}, {"q": "b"}], "Hello.")
    assert "2 rows have conversations: sundog trace desk-" in trace(folder).stderr
    assert trace(folder, "--row", "1", "--output", "row.html", "--format", "html").exit_code == 0
    assert "<title>row 1 of desk-" in (folder / "row.html").read_text()
    assert trace(folder, "--row", "1", "--output", "row.txt").exit_code == 0
    assert (folder / "row.txt").read_text() == trace(folder, "--row", "1").stdout


def test_a_page_shows_a_conversation_for_each_way_in_which_they_end(folder: Path) -> None:
    def script(messages: Sequence[Message]) -> Answer:
        row = int(messages[0].content)
        return [("look", {"id": num_answers(messages)})] if row == 8 else f"<script>{row}</script>"

    STAGE.script = script
    run(folder, AGENT, [{"q": str(number)} for number in range(9)])
    ran = sundog(folder, "explain", "flow.yaml", "--analyze", "--output", "out.jsonl", "--format", "html")
    assert ran.exit_code == 0, ran.stderr
    assert "5 of 9 rows with conversations: 0, 1, 2, 3, 8;" in ran.stdout
    assert "help: agent, 2 turns, stopped: max_turns" in ran.stdout
    assert "&lt;script&gt;3&lt;/script&gt;" in ran.stdout
    assert "<script" not in ran.stdout
    plain = sundog(folder, "explain", "flow.yaml", "--format", "html").stdout
    assert "Conversations" not in plain
