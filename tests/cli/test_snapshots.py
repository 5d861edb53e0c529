"""Rows that a function makes: a run keeps those it began with, and other rows are another run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.flows import sundog, write_checked

SOURCE = """
from pathlib import Path

def rows():
    return [{"id": int(text)} for text in Path(__file__).with_name("ids").read_text().split()]
"""
COMMAND = ("run", "flow.yaml", "--output", "out.jsonl", "--max-rows-in-flight", "1")


def write_called(folder: Path, ids: str, bad: str) -> None:
    write_checked(folder, 0, bad)
    flow = (folder / "flow.yaml").read_text()
    (folder / "flow.yaml").write_text(flow.replace("{path: rows.jsonl}", '{call: "source:rows"}'))
    (folder / "source.py").write_text(SOURCE)
    (folder / "ids").write_text(ids)


def ids_of(folder: Path) -> list[Any]:
    return [json.loads(line)["id"] for line in (folder / "out.jsonl").read_text().splitlines()]


def num_runs(folder: Path) -> int:
    return len(json.loads(sundog(folder, "runs", "--json").stdout))


def test_an_unfinished_run_goes_on_with_the_rows_it_began_with(tmp_path: Path) -> None:
    write_called(tmp_path, "1 2 3", bad="2")
    assert sundog(tmp_path, *COMMAND, "--fail-fast").exit_code == 1
    write_called(tmp_path, "7 8", bad="")
    ran = sundog(tmp_path, *COMMAND, "--retry-failed")
    assert ran.exit_code == 0, ran.stderr
    assert ids_of(tmp_path) == [1, 2, 3]
    assert num_runs(tmp_path) == 1


def test_a_finished_run_is_repeated_only_for_the_same_rows(tmp_path: Path) -> None:
    write_called(tmp_path, "1 2", bad="")
    for _ in range(2):
        assert sundog(tmp_path, *COMMAND).exit_code == 0
    assert num_runs(tmp_path) == 1
    (tmp_path / "ids").write_text("1 3")
    assert sundog(tmp_path, *COMMAND).exit_code == 0
    assert ids_of(tmp_path) == [1, 3]
    assert num_runs(tmp_path) == 2
    assert list((tmp_path / ".sundog").glob("inputs-*")) == [], "nothing is left behind"
