"""`sys.exit` in a task that a function starts ends the loop of the run: that is told, and is no success."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sundog.api import load
from sundog.errors import RunError
from tests.cli.flows import sundog

STEPS = """
import asyncio, sys

async def leave():
    sys.exit(0)

async def nested(x):
    return await asyncio.gather(leave()) if x == 1 else x
"""
FLOW = """
name: leaving
inputs: {rows: {path: rows.jsonl}}
nodes:
  s: {python: {call: "sundog_leaving_steps:nested", args: {x: "{{ row.id }}"}}}
outputs: {s: "{{ s }}"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "flow.yaml").write_text(FLOW)
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"id": {index}}}\n' for index in range(3)))
    (tmp_path / "sundog_leaving_steps.py").write_text(STEPS)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("sundog_leaving_steps", None)


def test_the_command_fails_and_says_why(folder: Path) -> None:
    told = sundog(folder, "run", "flow.yaml")
    assert told.exit_code == 1
    assert "a function of the flow called sys.exit(0) in a task of its own" in told.stderr


def test_python_users_keep_their_process(folder: Path) -> None:
    with pytest.raises(RunError, match=r"sys.exit\(0\)"):
        load(folder / "flow.yaml").run(state=folder / "state")
