"""`sundog init`: each starter is a flow that runs, and nothing that is there is written over."""

from __future__ import annotations

import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sundog.cli.init import Kind
from tests.cli.flows import report_of, sundog
from tests.docs.stage import prepare

NUM_ROWS = {"classify": 6, "answer": 5, "served": 3}
"""Rows that are done: one question of `answer` has no manual."""


@pytest.mark.parametrize("kind", Kind)
def test_the_commands_that_init_names_run_its_flow(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, monkeypatch)
    made = sundog(tmp_path, "init", "a demo", "--kind", kind)
    assert made.exit_code == 0, made.stderr
    commands = made.stdout.split("next:\n")[1].splitlines()
    folder = tmp_path
    for command in commands:
        match shlex.split(command, comments=True):
            case ["cd", name]:
                folder = tmp_path / name
            case ["sundog", *arguments]:
                ran = sundog(folder, *arguments)
                assert ran.exit_code == 0, (command, ran.stderr)
            case words:
                assert words in ([], ["pip", "install", "sundog[local]"])
    assert len((folder / "answers.jsonl").read_text().splitlines()) == NUM_ROWS[kind]
    assert report_of(sundog(folder, *arguments, "--json"))["num_failed"] == 0


@pytest.mark.parametrize("kind", Kind)
def test_a_starters_flow_says_how_it_is_run(kind: Kind, tmp_path: Path) -> None:
    sundog(tmp_path, "init", "--kind", kind)
    text = (tmp_path / "flow.yaml").read_text()
    assert text.startswith("# ")
    assert "sundog run flow.yaml --output answers.jsonl" in text
    assert YAML(typ="safe", pure=True).load(text)["outputs"]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "tickets.csv").write_text("mine")
    ran = sundog(tmp_path, "init", "--kind", "classify")
    assert (ran.exit_code, ran.stderr) == (
        2,
        "error: tickets.csv is there already\n  name another folder: sundog init DIR\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["tickets.csv"]
    assert (tmp_path / "tickets.csv").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = sundog(tmp_path, "init", "file/below")
    assert (ran.exit_code, ran.stderr.splitlines()[0]) == (2, "error: cannot write into file/below: Not a directory")


def test_without_a_terminal_nothing_is_asked(tmp_path: Path) -> None:
    assert "sort support tickets" in sundog(tmp_path, "init").stdout


@pytest.mark.slow
def test_on_a_terminal_it_asks(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "sundog", "init"], cwd=tmp_path, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        os.write(ours, b"7\n2\n")
        assert process.stdout is not None
        printed = process.stdout.read()
    os.close(ours)
    assert process.returncode == 0
    assert printed.startswith(b"answer questions from documents")
    assert (tmp_path / "manuals.db").is_file()
