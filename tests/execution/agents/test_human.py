"""Questions that a person answers: the row waits, the others go on, and the same command continues."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import sundog as sd
from sundog.cli.answer import _ask, _shown
from sundog.cli.main import app
from sundog.engines.base import ENGINES, Message
from sundog.errors import AnswersAwaited, ConfigError, RunStopped
from sundog.runtime.answers import OpenQuestion, OpenQuestions, open_questions
from sundog.runtime.kept_runs import list_runs
from sundog.runtime.tables.course import OnNote, TableCourse
from sundog.store.store import Store
from tests.execution.agents.scripted_agent import STAGE, Answer, ScriptedKind, Stage, num_answers

FLOW = """
name: approvals
inputs: {claims: claims.csv}
nodes:
  approve:
    when: "{{ row.cents > 100 }}"
    human: {question: "Pay {{ row.cents }} to {{ row.name }}?"}
outputs: {name: "{{ row.name }}", answer: "{{ approve.text if approve is defined else 'small' }}"}
"""
WITH_GROUPS = """
name: approvals
inputs: {claims: claims.csv}
tables:
  asked:
    from: claims
    nodes: {approve: {when: "{{ row.cents > 100 }}", human: {question: "Pay {{ row.name }}?"}}}
    outputs: {name: "{{ row.name }}", answer: "{{ approve.text if approve is defined else 'small' }}"}
  each: {query: "select upper(name) as name from asked"}
  counted: {query: "select answer, count(*) as n from asked group by answer"}
"""
AGENT = """
name: desk
engines: {model: {kind: scripted, model: m}}
inputs: {claims: claims.csv}
tools:
  ask: {description: Ask the boss., parameters: {question: str}, human: true}
  other: {description: Ask anybody., parameters: {about: str, urgent: bool}, human: true}
nodes:
  help: {agent: {engine: model, prompt: "{{ row.name }}", tools: [ask, other]}}
outputs: {name: "{{ row.name }}", text: "{{ help.text }}"}
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "claims.csv").write_text("name,cents\nann,900\nbob,50\ncid,700\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state"


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setitem(ENGINES._loaded, "scripted", ScriptedKind)
    monkeypatch.setattr(STAGE, "requests", [])
    return STAGE


def run(state: Path, text: str) -> list[dict[str, Any]]:
    (state.parent / "flow.yaml").write_text(text)
    return [dict(row) for row in sd.load(state.parent / "flow.yaml").run(state=state)]


def asked(questions: OpenQuestions) -> list[tuple[str, str, str]]:
    return [(one.row, one.path, one.question) for one in questions]


def test_rows_wait_for_their_answers_and_others_end(state: Path) -> None:
    with pytest.raises(AnswersAwaited, match="2 rows wait for the answers to 2 questions") as waiting:
        run(state, FLOW)
    assert "sundog answer approvals-" in str(waiting.value)
    assert [(one.state, one.done) for one in list_runs(state)] == [("waits", 1)]
    with open_questions(state, "last") as questions:
        assert asked(questions) == [("0", "approve", "Pay 900 to ann?"), ("2", "approve", "Pay 700 to cid?")]
        questions.answer("2", "no")
        assert [one.row for one in questions] == ["0"]
    with pytest.raises(AnswersAwaited, match="1 row waits for the answer to 1 question"):
        run(state, FLOW)
    with open_questions(state, "last") as questions:
        questions.answer("0", "yes")
    assert run(state, FLOW) == [
        {"name": "ann", "answer": "yes"},
        {"name": "bob", "answer": "small"},
        {"name": "cid", "answer": "no"},
    ]
    assert [one.state for one in list_runs(state)] == ["finished"]


def test_tables_that_need_all_rows_wait_too(state: Path) -> None:
    with pytest.raises(AnswersAwaited, match="2 rows wait for the answers to 2 questions"):
        run(state, WITH_GROUPS)
    with open_questions(state, "last") as questions:
        assert [one.row for one in questions] == ["asked:0", "asked:2"]
        for row in ("asked:0", "asked:2"):
            questions.answer(row, "yes")
    (state.parent / "flow.yaml").write_text(WITH_GROUPS)
    result = sd.load(state.parent / "flow.yaml").run(state=state)
    assert [row["name"] for row in result.table("each")] == ["ANN", "BOB", "CID"]
    assert [(row["answer"], row["n"]) for row in result.table("counted")] == [("yes", 2), ("small", 1)]


def test_an_agent_asks_a_person(state: Path, stage: Stage) -> None:
    """Both questions of a turn are asked at once, and the conversation goes on at the turn."""

    def script(messages: Sequence[Message]) -> Answer:
        if messages[0].text != "ann":
            return "nothing to ask"
        if not num_answers(messages):
            return [("ask", {"question": "May I?"}), ("other", {"about": "it", "urgent": True})]
        return " and ".join(message.text for message in messages if message.role == "tool")

    stage.script = script
    with pytest.raises(AnswersAwaited, match="1 row waits for the answers to 2 questions"):
        run(state, AGENT)
    num_asked = len(stage.requests)
    with open_questions(state, "last") as questions:
        (_, first, one), (_, second, other) = asked(questions)
        assert (one, json.loads(other)) == ("May I?", {"about": "it", "urgent": True})
        with pytest.raises(ConfigError, match="row '0' has 2 questions"):
            questions.answer("0", "yes")
        questions.answer("0", "yes", first)
        questions.answer("0", "no", second)
    assert run(state, AGENT)[0] == {"name": "ann", "text": "yes and no"}
    assert len(stage.requests) == num_asked + 1, "only the turn behind the answers is asked"


def test_what_waits_for_no_answer_takes_none(state: Path) -> None:
    with pytest.raises(AnswersAwaited):
        run(state, FLOW)
    with open_questions(state, "last") as questions:
        with pytest.raises(ConfigError, match=r"row '1' of run .* waits for no answer"):
            questions.answer("1", "yes")
        with pytest.raises(ConfigError, match="no question at 'other'"):
            questions.answer("0", "yes", "other")
        for empty in ("", " \n"):
            with pytest.raises(ConfigError, match="the answer is empty"):
                questions.answer("0", empty)


def test_rows_that_share_a_question_share_its_answer(state: Path) -> None:
    (state.parent / "claims.csv").write_text("name,cents\nann,900\nbob,900\ncid,700\nann,900\n")
    shared = FLOW.replace(' to {{ row.name }}?"}', '?"}\n    share: true')
    with pytest.raises(AnswersAwaited, match="4 rows wait for the answers to 2 questions"):
        run(state, shared)
    listed = CliRunner().invoke(app, ["answer", "last", "--state", str(state)])
    assert listed.stdout == "row 0 (approve), and 2 other rows: Pay 900?\nrow 2 (approve): Pay 700?\n"
    assert listed.stderr.startswith("2 questions of 4 rows have no answer yet")
    with open_questions(state, "last") as questions:
        assert [(one.row, one.shared_by) for one in questions] == [("0", ("1", "3")), ("2", ())]
        questions.answer("3", "yes")
        assert (len(questions), questions.num_rows) == (1, 1)
        questions.answer("2", "no")
    assert [row["answer"] for row in run(state, shared)] == ["yes", "yes", "no", "yes"]


def test_an_empty_question_is_not_asked(state: Path, stage: Stage) -> None:
    empty = FLOW.replace("Pay {{ row.cents }} to {{ row.name }}?", "{{ '' if row.name == 'ann' else ' ' }}")
    (state.parent / "flow.yaml").write_text(empty)
    result = sd.run(state.parent / "flow.yaml", state=state)
    assert [error["cause"] for error in result.errors] == ["OperatorError: the question is empty"] * 2

    def script(messages: Sequence[Message]) -> Answer:
        return messages[-1].text if num_answers(messages) else [("ask", {"question": ""})]

    stage.script = script
    assert {row["text"] for row in run(state, AGENT)} == {"error: the question is empty"}


def test_the_end_of_input_leaves_what_is_open(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AnswersAwaited):
        run(state, FLOW)
    typed = iter(["yes"])

    def line(prompt: str) -> str:
        if (text := next(typed, None)) is None:
            raise EOFError
        return text

    monkeypatch.setattr("builtins.input", line)
    with open_questions(state, "last") as questions:
        _ask(questions)
        assert asked(questions) == [("2", "approve", "Pay 700 to cid?")]


def test_no_line_of_a_question_looks_like_another_one() -> None:
    shown = _shown(OpenQuestion("1", "ok", "Pay?\x1b[1m\nrow 2 (ok): Pay more?"))
    assert shown == "row 1 (ok): Pay? [1m\n  row 2 (ok): Pay more?"


def test_the_commands(state: Path) -> None:
    (state.parent / "flow.yaml").write_text(FLOW)
    command = ["run", "flow.yaml", "--output", "out.jsonl", "--state", str(state), "--quiet"]
    runner = CliRunner()
    assert runner.invoke(app, command).exit_code == 3
    assert not (state.parent / "out.jsonl").exists()
    answer = ["answer", "last", "--state", str(state)]
    listed = runner.invoke(app, answer)
    assert listed.stdout == "row 0 (approve): Pay 900 to ann?\nrow 2 (approve): Pay 700 to cid?\n"
    assert [one["row"] for one in json.loads(runner.invoke(app, [*answer, "--json"]).stdout)] == ["0", "2"]
    assert runner.invoke(app, [*answer, "--row", "0"]).exit_code == 2
    for row in ("0", "2"):
        given = runner.invoke(app, [*answer, "--row", row, "--text", "yes"])
        assert given.exit_code == 0, given.stderr
    assert "waits for no answer" in given.stderr
    assert runner.invoke(app, command).exit_code == 0
    assert len((state.parent / "out.jsonl").read_text().splitlines()) == 3


def test_answers_that_come_while_the_run_runs_are_kept(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_awaited = Store.put_awaited

    def answered(store: Store, key: bytes, run_id: str, *more: Any) -> Awaitable[None]:
        async def write() -> None:
            await put_awaited(store, key, run_id, *more)
            for one in store.awaited(run_id):
                store.answer(run_id, one, b'{"text":"yes"}', "ann")

        return write()

    monkeypatch.setattr(Store, "put_awaited", answered)
    with pytest.raises(AnswersAwaited, match="all questions have been answered meanwhile"):
        run(state, FLOW)
    assert [one.state for one in list_runs(state)] == ["unfinished"]
    assert [row["answer"] for row in run(state, FLOW)] == ["yes", "small", "yes"]


def test_a_run_that_goes_on_waits_no_more(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AnswersAwaited):
        run(state, FLOW)

    def interrupted(course: TableCourse, on_note: OnNote) -> None:
        raise RunStopped("interrupted")

    monkeypatch.setattr(TableCourse, "run", interrupted)
    with pytest.raises(RunStopped, match="interrupted"):
        run(state, FLOW)
    assert [one.state for one in list_runs(state)] == ["unfinished"]
