"""The example with a LangGraph graph: it runs unchanged, and equal calls are made once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sundog.store.store import Store
from tests.examples.stage import EXAMPLES


def test_the_graph_runs_over_rows_and_equal_calls_are_made_once(tmp_path: Path) -> None:
    pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    pytest.importorskip("langgraph", reason="langgraph is not installed")
    folder = tmp_path / "triage"
    shutil.copytree(EXAMPLES / "triage_graph", folder)
    (folder / "engines.yaml").write_text('engines: {local: {kind: "null", model: m}}\n', encoding="utf-8")
    command = [sys.executable, "triage.py", "tickets.jsonl"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    ends = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [end["id"] for end in ends] == [1, 2, 3, 4]
    assert all(end["reply"] and end["summary"] for end in ends)
    assert ends[0]["reply"] == ends[2]["reply"]
    store = Store(folder / ".sundog")
    assert store.select("select count(*) from results", ()) == [(6,)], "two tickets are equal, and so are their calls"
    store.close()
