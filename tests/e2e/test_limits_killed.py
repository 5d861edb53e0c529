"""A run with a limit that is killed again and again: what the server has seen stays within the limit, and a larger one
continues it to the same bytes."""

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

NUM_ROWS = 300
MAX_TOKENS = 30
COMMAND = ("run", "flow.yaml", "--output", "said.jsonl")
FLOW = """
name: limited
engines:
  served:
    kind: openai
    base_url: "{origin}/v1"
    model: m
    max_concurrency: {num_at_once}
    price: {{input_usd_per_mtok: 2.0, output_usd_per_mtok: 10.0}}
inputs: {{rows: {{path: rows.jsonl}}}}
nodes:
  ask: {{llm: {{engine: served, prompt: "Row {{{{ row.id }}}}: {{{{ row.text }}}}", max_tokens: {max_tokens}}}}}
outputs: {{id: "{{{{ row.id }}}}", said: "{{{{ ask.text }}}}"}}
"""


class PaidServer(ChatServer):
    """It charges each request when it comes, before it is answered, and tells what it has charged."""

    def __init__(self) -> None:
        super().__init__(lambda body: f"answer to {body['messages'][-1]['content'][:8]}")
        self.num_tokens = 0

    def reply(self, body: Mapping[str, Any]) -> tuple[str, str]:
        usage = self.charge(body)
        message = {"role": "assistant", "content": self.answer(body)}
        choice = {"index": 0, "message": message, "delta": message, "finish_reason": "stop"}
        if not body.get("stream"):
            return "application/json", json.dumps({"choices": [choice], "usage": usage})
        events = [{"choices": [choice]}, {"choices": [], "usage": usage}]
        text = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
        return "text/event-stream", f"{text}data: [DONE]\n\n"

    def charge(self, body: Mapping[str, Any]) -> dict[str, int]:
        """Return the tokens of a request: some for its text, and more or less of what it allows for the answer."""
        text = body["messages"][-1]["content"]
        allowed = body.get("max_tokens") or body["max_completion_tokens"]
        usage = {"prompt_tokens": 60 + len(text) * 3 // 4, "completion_tokens": 1 + len(text) % allowed}
        self.num_tokens += sum(usage.values())
        return usage


def write_flow(folder: Path, origin: str) -> None:
    flow = FLOW.format(origin=origin, num_at_once=NUM_AT_ONCE, max_tokens=MAX_TOKENS)
    (folder / "flow.yaml").write_text(flow)
    rows = ({"id": number, "text": "word " * (20 + number % 40)} for number in range(NUM_ROWS))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def spent_tokens(text: str) -> int:
    found = re.search(r"spent ([\d,]+), reserved 0", text)
    assert found, text
    return int(found[1].replace(",", ""))


def test_a_limit_holds_whatever_is_killed(tmp_path: Path) -> None:
    with PaidServer() as server:
        calm = tmp_path / "calm"
        calm.mkdir()
        write_flow(calm, server.origin)
        code, _, stderr = run(calm, *COMMAND)
        assert code == 0, stderr
        num_whole = server.num_tokens
        limit = num_whole * 2 // 3
        write_flow(tmp_path, server.origin)
        limited = (*COMMAND, "--max-tokens", str(limit))
        server.num_tokens = 0
        server.asked.clear()
        server.shut_gate()
        num_lost = 0
        for num_more in (5, 11, 3, 8):
            kill_after(tmp_path, server, num_more, *limited)
            assert server.num_tokens <= limit
            num_lost += NUM_AT_ONCE
        server.open_gate()
        code, _, stderr = run(tmp_path, *limited)
        assert code == 1
        assert "max_tokens of the run 'limited-" in stderr
        assert server.num_tokens <= limit, "also with the calls that nobody has heard the end of"
        spent = spent_tokens(stderr)
        # What was held for the killed calls counts whole; each may have held a token for each byte of its prompt.
        assert server.num_tokens <= spent <= min(limit, server.num_tokens + num_lost * 1000)
        num_asked = len(server.asked)
        code, _, again = run(tmp_path, *limited)
        assert (code, len(server.asked)) == (1, num_asked), "nothing fits any more, and a restart forgets nothing"
        assert spent_tokens(again) == spent
        code, _, stderr = run(tmp_path, *COMMAND, "--max-tokens", str(10 * num_whole))
        assert code == 0, stderr
        assert (tmp_path / "said.jsonl").read_bytes() == (calm / "said.jsonl").read_bytes()
