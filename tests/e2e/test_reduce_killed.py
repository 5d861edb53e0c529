"""A run over a tree of texts that is killed again and again: equal bytes, and only what was in flight is asked anew."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.chat_server import ChatServer
from tests.e2e.processes import NUM_AT_ONCE, kill_after, run

pytestmark = pytest.mark.slow

NUM_ROWS = 150
COMMAND = ("run", "flow.yaml", "--output", "told.jsonl")
FLOW = """
name: killed
engines: {{served: {{kind: openai, base_url: "{origin}/v1", model: m, max_concurrency: {num_at_once}}}}}
inputs: {{rows: {{path: rows.jsonl}}}}
tables:
  told:
    reduce:
      source: rows
      by: kind
      text: text
      engine: served
      prompt: "Of {{{{ row.kind }}}}:"
      max_tokens: 20
      max_prompt_tokens: 100
"""


def numbers(body: Mapping[str, Any]) -> str:
    """Return the numbers in a prompt."""
    return " ".join(re.findall(r"#\d+", body["messages"][-1]["content"]))


def write_flow(folder: Path, origin: str) -> None:
    (folder / "flow.yaml").write_text(FLOW.format(origin=origin, num_at_once=NUM_AT_ONCE))
    rows = ({"kind": "ab"[number % 2], "text": f"#{number} " + "word " * (number % 5)} for number in range(NUM_ROWS))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_reduce_that_is_killed_gives_the_same_bytes(tmp_path: Path) -> None:
    with ChatServer(numbers) as server:
        calm = tmp_path / "calm"
        calm.mkdir()
        write_flow(calm, server.origin)
        code, _, stderr = run(calm, *COMMAND)
        assert code == 0, stderr
        num_whole = len(server.asked)
        assert num_whole > 30
        server.asked.clear()
        write_flow(tmp_path, server.origin)
        server.shut_gate()
        num_killed = 0
        for num_more in (0, 7, 12, 9, 2, 1):
            kill_after(tmp_path, server, num_more, *COMMAND)
            num_killed += 1
        server.open_gate()
        code, _, stderr = run(tmp_path, *COMMAND)
        assert code == 0, stderr
        told = (tmp_path / "told.jsonl").read_bytes()
        assert told == (calm / "told.jsonl").read_bytes()
        (first, second) = (re.findall(r"#\d+", json.loads(line)["text"]) for line in told.splitlines())
        assert [*first, *second] == [f"#{n}" for n in (*range(0, NUM_ROWS, 2), *range(1, NUM_ROWS, 2))]
        assert len(server.asked) <= num_whole + num_killed * 2 * NUM_AT_ONCE
