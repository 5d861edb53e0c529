"""Statements are mended by what the database says and by what the judge says, and can only read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples.model_script import Message, ScriptedModel, say, use
from tests.examples.stage import NULL, ONE_BY_ONE, copy_example, read_rows, run_example

WRONG, NARROW, RIGHT = (
    "select pages from book",
    "select count(*) as n from book",
    "select title from book order by year",
)
REASON = "There are no titles."


def script(messages: list[Message]) -> Message:
    """A model that mends a column when the database names it, and the statement when the judge asks for it."""
    asked = next(message["content"] for message in messages if message["role"] == "user")
    if "Do the rows answer" in asked:
        return say({"verdict": "answers" if RIGHT in asked else "fails", "why": REASON})
    if REASON in asked:
        return say({"statement": RIGHT})
    found = [message["content"] for message in messages if message["role"] == "tool"]
    if not found:
        return use("query", statement="delete from book" if "oldest" in asked else WRONG)
    if len(found) == 1:
        assert ("delete is no query" if "oldest" in asked else "no such column: pages") in found[0]
        return use("query", statement=NARROW)
    return say({"statement": NARROW})


def make_library(folder: Path, engine: str) -> Path:
    copy_example("text_to_sql", folder, engine)
    subprocess.run([sys.executable, "make_library.py"], cwd=folder, check=True)
    return folder


def test_no_statement_of_a_model_changes_anything(tmp_path: Path) -> None:
    folder = make_library(tmp_path / "library", NULL)
    before = (folder / "library.db").read_bytes()
    finished = run_example(folder)
    assert [row["id"] for row in finished.rows] == [row["id"] for row in read_rows(folder / "questions.jsonl")]
    assert all(row["turns"] == 3 or row["verdict"] == "answers" for row in finished.rows)
    assert finished.calls("rows__call")[0] == sum(row["turns"] for row in finished.rows)
    assert (folder / "library.db").read_bytes() == before


def test_statements_are_mended(tmp_path: Path) -> None:
    with ScriptedModel(script) as model:
        folder = make_library(tmp_path / "library", model.engine)
        finished = run_example(folder, *ONE_BY_ONE)
    assert {(row["statement"], row["verdict"], row["turns"]) for row in finished.rows} == {(RIGHT, "answers", 2)}
    assert finished.rows[0]["rows"][0] == {"title": "Letters North"}


@pytest.mark.slow
def test_killed_at_a_turn_and_continued(tmp_path: Path) -> None:
    with ScriptedModel(script) as model:
        calm, killed = make_library(tmp_path / "calm", model.engine), make_library(tmp_path / "killed", model.engine)
        model.kill_at_turns((1, 4, 9), killed, calm)
