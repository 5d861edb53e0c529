"""Another run that would make the effects of an earlier one again says so before the first, and asks."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from sundog.api import load
from sundog.config import read_config
from sundog.errors import ConfigError
from sundog.runtime.run_options import RunOptions
from sundog.session.flow_file import load_plan
from sundog.session.session import plan_session
from tests.cli.flows import sundog

FLOW = """
name: mails
engines: {local: {kind: "null"}}
inputs: {rows: {path: rows.jsonl}}
nodes:
  word: {llm: {engine: local, prompt: "a word for {{ row.id }}"}}
  send: {sql: {database: "sqlite:///sent.db", query: "insert into sent values (:id)", params: {id: "{{ row.id }}"}}}
outputs: {id: "{{ row.id }}", word: "{{ word.text }}"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.yaml").write_text(FLOW)
    write_rows(tmp_path, 4)
    with closing(sqlite3.connect(tmp_path / "sent.db")) as connection:
        connection.execute("create table sent (id)")
    return tmp_path


def write_rows(folder: Path, number: int) -> None:
    (folder / "rows.jsonl").write_text("".join(f'{{"id": {index}}}\n' for index in range(number)))


def num_sent(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "sent.db")) as connection:
        (number,) = connection.execute("select count(*) from sent").fetchone()
    return int(number)


OTHER_RUNS = [
    ("--output", "two.csv"),
    ("--output", "one.csv", "--fresh"),
    ("--output", "one.csv", "--limit", "2"),
    ("--output", "one.csv", "--sample", "3"),
    (),
]


@pytest.mark.parametrize("options", OTHER_RUNS, ids=lambda options: " ".join(options) or "no output")
def test_another_run_over_the_same_rows_asks_before_the_first_effect(folder: Path, options: tuple[str, ...]) -> None:
    assert sundog(folder, "run", "flow.yaml", "--output", "one.csv").exit_code == 0
    ran = sundog(folder, "run", "flow.yaml", *options)
    assert ran.exit_code == 2
    assert "has made or begun 4 effects (send) of this flow over the same input" in ran.stderr
    assert "--repeat-effects" in ran.stderr
    assert num_sent(folder) == 4
    assert sundog(folder, "runs").stdout.count("mails-") == 1, "nothing was begun"
    assert sundog(folder, "run", "flow.yaml", *options, "--repeat-effects").exit_code == 0
    assert num_sent(folder) > 4


def test_a_run_that_is_at_work_is_not_doubled_before_its_first_effect(folder: Path) -> None:
    first, other = (
        plan_session(load_plan(folder / "flow.yaml", {}), folder, read_config(folder / ".sundog")) for _ in "ab"
    )
    options = [RunOptions(folder / ".sundog", {"": folder / name}) for name in ("one.csv", "two.csv", "three.csv")]
    with first.open_run(options[0]) as opened:
        with pytest.raises(ConfigError, match=rf"run {opened.record.run_id} is at work now on the effects \(send\)"):
            other.open_run(options[1]).__enter__()
        with other.open_run(replace(options[1], repeat_effects=True)):
            pass
    # Nobody works on it any more, and it has made no effect: another may.
    with (
        other.open_run(options[2]) as begun,
        pytest.raises(ConfigError, match=rf"run {begun.record.run_id} is at work now"),
    ):
        first.open_run(options[0]).__enter__()


def test_the_same_command_asks_for_nothing(folder: Path) -> None:
    for _ in range(2):
        assert sundog(folder, "run", "flow.yaml", "--output", "one.csv").exit_code == 0
    assert num_sent(folder) == 4


def test_a_run_that_was_allowed_is_not_asked_again(folder: Path) -> None:
    sundog(folder, "run", "flow.yaml", "--output", "one.csv")
    command = ("run", "flow.yaml", "--output", "two.csv")
    assert sundog(folder, *command, "--repeat-effects").exit_code == 0
    assert sundog(folder, *command, "--retry-failed").exit_code == 0
    assert sundog(folder, "run", "flow.yaml", "--output", "one.csv", "--retry-failed").exit_code == 2, "nobody asked it"


@pytest.mark.parametrize(
    ("old", "new"),
    [("sent.db", "other.db"), ("name: mails", "name: letters"), ("send:", "send_again:"), ("(:id)", "(:id + 1)")],
)
def test_other_effects_are_not_asked_for(folder: Path, old: str, new: str) -> None:
    sundog(folder, "run", "flow.yaml", "--output", "one.csv")
    with closing(sqlite3.connect(folder / "other.db")) as connection:
        connection.execute("create table sent (id)")
    (folder / "flow.yaml").write_text(FLOW.replace(old, new))
    assert sundog(folder, "run", "flow.yaml", "--output", "one.csv").exit_code == 0


def test_other_rows_are_not_asked_for(folder: Path) -> None:
    sundog(folder, "run", "flow.yaml", "--output", "one.csv")
    write_rows(folder, 5)
    assert sundog(folder, "run", "flow.yaml", "--output", "one.csv").exit_code == 0


def test_a_changed_prompt_above_them_makes_no_other_effects(folder: Path) -> None:
    sundog(folder, "run", "flow.yaml", "--output", "one.csv")
    (folder / "flow.yaml").write_text(FLOW.replace("a word", "two words"))
    assert sundog(folder, "run", "flow.yaml", "--output", "one.csv").exit_code == 2


def test_python_users_are_asked_too(folder: Path) -> None:
    flow = load(folder / "flow.yaml")
    flow.run(state=folder / "state")
    with pytest.raises(ConfigError, match="repeat_effects=True"):
        flow.run(state=folder / "state", fresh=True)
    flow.run(state=folder / "state", fresh=True, repeat_effects=True)
    assert num_sent(folder) == 8
