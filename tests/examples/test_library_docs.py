"""The research agent reads what is there, is told of what is not, and goes on at the turn where it is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.test_openvino import needs_model
from tests.examples.model_script import Message, ScriptedModel, say, use
from tests.examples.stage import EMBEDDED, NULL, ONE_BY_ONE, copy_example, read_rows, run_example

ENGINES = [pytest.param(NULL, id="null"), pytest.param(EMBEDDED, id="embedded", marks=needs_model)]
WORDS = {
    "middle": "median",
    "largest": "nlargest",
    "lines": "wrap",
    "misspelt": "close",
    "pattern": "glob",
    "folder": "tree",
}
SOURCES = [
    "statistics.median",
    "heapq.nlargest",
    "textwrap.wrap",
    "difflib.get_close_matches",
    "glob.glob",
    "statistics.median",
    "shutil.copytree",
]


def script(messages: list[Message]) -> Message:
    """A model that reads a name that is not there, searches for a word, and reads the first name of those it should."""
    question = next(message["content"] for message in messages if message["role"] == "user")
    found = [message["content"] for message in messages if message["role"] == "tool"]
    word = next(word for asked, word in WORDS.items() if asked in question)
    if not found:
        return use("read", name="os.system")
    if len(found) == 1:
        assert "'os' is none of these modules" in found[0]
        return use("search", word=word)
    source = next(name for name in SOURCES if f'"{name}"' in found[1])
    if len(found) == 2:
        return use("read", name=source)
    assert "signature" in found[2]
    return say({"answer": f"Use {source}.", "source": source})


@pytest.mark.parametrize("engine", ENGINES)
def test_conversations_are_bounded(tmp_path: Path, engine: str) -> None:
    folder = tmp_path / "docs"
    copy_example("library_docs", folder, engine)
    finished = run_example(folder)
    assert [row["id"] for row in finished.rows] == [row["id"] for row in read_rows(folder / "questions.jsonl")]
    assert all(row["turns"] <= 7 for row in finished.rows)
    assert finished.calls("is_there")[0] == len(finished.rows)


def test_sources_are_read(tmp_path: Path) -> None:
    with ScriptedModel(script) as model:
        folder = tmp_path / "docs"
        copy_example("library_docs", folder, model.engine)
        finished = run_example(folder, *ONE_BY_ONE)
    assert [row["source"] for row in finished.rows] == SOURCES
    assert all(row["source_is_there"] and row["stopped"] == "answer" for row in finished.rows)
    assert finished.calls("research__search") == (7, 6), "equal uses are made once"


@pytest.mark.slow
def test_killed_at_a_turn_and_continued(tmp_path: Path) -> None:
    with ScriptedModel(script) as model:
        calm, killed = tmp_path / "calm", tmp_path / "killed"
        for folder in (calm, killed):
            copy_example("library_docs", folder, model.engine)
        model.kill_at_turns((2, 5, 8), killed, calm)
