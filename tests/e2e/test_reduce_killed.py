"""A run over a tree of texts that is killed again and again: equal bytes, and only what was in flight is asked anew."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.counting_server import Asked, CountingServer
from tests.e2e.processes import NUM_AT_ONCE, kill_after, run
from tests.loopback_server import QuietHandler

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


class NumbersServer(CountingServer):
    """It answers each prompt with the numbers in it."""

    def handler(self) -> type[Any]:
        return _Chat


class _Chat(QuietHandler):
    owner: NumbersServer

    def do_GET(self) -> None:
        self._send("application/json", json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        found = re.findall(r"#\d+", body["messages"][-1]["content"])
        self.owner.receive(Asked("POST", int(found[0][1:]), None))
        chunk = {"choices": [{"index": 0, "delta": {"content": " ".join(found)}, "finish_reason": "stop"}]}
        self._send("text/event-stream", f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n")

    def _send(self, kind: str, text: str) -> None:
        try:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())
        except OSError:
            self.close_connection = True  # the client was killed


def write_flow(folder: Path, origin: str) -> None:
    (folder / "flow.yaml").write_text(FLOW.format(origin=origin, num_at_once=NUM_AT_ONCE))
    rows = ({"kind": "ab"[number % 2], "text": f"#{number} " + "word " * (number % 5)} for number in range(NUM_ROWS))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_reduce_that_is_killed_gives_the_same_bytes(tmp_path: Path) -> None:
    with NumbersServer() as server:
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
