"""A flow with MCP steps, from its file to its output: reads are shared, effects happen once for each row."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import sundog as sd
from tests.operators import plain_mcp_server

PROGRAM = Path(plain_mcp_server.__file__)


def server(folder: Path, name: str) -> list[str]:
    return [sys.executable, "-S", str(PROGRAM), "well", str(folder / name)]


def seen(folder: Path, name: str) -> list[str]:
    return [line.partition(" ")[0] for line in (folder / name).read_text().splitlines()]


def test_tools_are_used_as_the_plan_says(tmp_path: Path) -> None:
    flow = sd.Flow("tools", base_dir=tmp_path)
    flow.input("rows", rows=[{"id": number, "kind": number % 2} for number in range(6)])
    look = flow.mcp(
        "look", command=server(tmp_path, "read.txt"), tool="echo", arguments={"kind": "{{ row.kind }}"}, effect=False
    )
    kept = flow.mcp(
        "kept", command=server(tmp_path, "written.txt"), tool="keep", arguments={"id": "{{ row.id }}"}, after=[look]
    )
    flow.output(id="{{ row.id }}", kind=look.json.kind, degrees=kept.json.degrees)
    flow.run(output=tmp_path / "out.jsonl", state=tmp_path / "state", progress=False)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows == [{"id": number, "kind": number % 2, "degrees": 7} for number in range(6)]
    # Each starts once to be looked at before the run, and once for the run. Equal reads are one call.
    assert seen(tmp_path, "read.txt") == ["start", "start", "echo", "echo"]
    assert seen(tmp_path, "written.txt") == ["start", "start"] + ["keep"] * 6
