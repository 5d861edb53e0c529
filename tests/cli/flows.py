"""Flows on the null engine and the command line inside this process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from sundog.cli.main import app

REVIEW = """
name: review
engines:
  local: {kind: "null"}
inputs:
  rows: {path: rows.jsonl}
nodes:
  facts:
    llm: {engine: local, prompt: "List facts about {{ row.topic }}."}
  answer:
    llm: {engine: local, prompt: "{{ facts.text }} Row {{ row.id }}.", output: {grade: [good, bad], why: str}}
  audit:
    when: "{{ answer.grade == 'bad' }}"
    llm: {engine: local, prompt: "{{ answer.why }}"}
outputs: {id: "{{ row.id }}", grade: "{{ answer.grade }}", audit: "{{ audit.text }}"}
"""

CHECKED = """
name: checked
inputs:
  rows: {path: rows.jsonl}
nodes:
  check:
    python: {call: "checks:check", args: {id: "{{ row.id }}"}}
    retries: 0
outputs: {id: "{{ row.id }}", found: "{{ check }}"}
"""
CHECKS = """
from pathlib import Path

def check(id):
    with open(Path(__file__).with_name("calls"), "a") as file:
        file.write(f"{id}\\n")
    bad = Path(__file__).with_name("bad").read_text().split()
    if str(id) in bad:
        raise ValueError(f"row {id} is bad")
    return id * 2
"""


@dataclass(frozen=True, slots=True)
class Ran:
    exit_code: int
    stdout: str
    stderr: str


def write_rows(folder: Path, num_rows: int, name: str = "rows.jsonl") -> None:
    rows = ({"id": number, "topic": f"topic {number % 3}"} for number in range(num_rows))
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_review(folder: Path, num_rows: int = 12) -> None:
    (folder / "flow.yaml").write_text(REVIEW)
    write_rows(folder, num_rows)


def write_checked(folder: Path, num_rows: int, bad: str) -> None:
    """A flow whose rows fail when `bad`, a file of ids, names them; `calls` counts."""
    (folder / "flow.yaml").write_text(CHECKED)
    (folder / "checks.py").write_text(CHECKS)
    (folder / "bad").write_text(bad)
    write_rows(folder, num_rows)


def num_checks(folder: Path) -> int:
    return len((folder / "calls").read_text().split())


def sundog(folder: Path, *arguments: str) -> Ran:
    """`sundog ...` with `folder` as the working directory."""
    with working_directory(folder):
        result = CliRunner().invoke(app, list(arguments))
    return Ran(result.exit_code, result.stdout, result.stderr)


@contextmanager
def working_directory(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def report_of(ran: Ran) -> dict[str, Any]:
    """The JSON report of a run with --json."""
    (line,) = ran.stdout.splitlines()
    report: dict[str, Any] = json.loads(line)
    return report
