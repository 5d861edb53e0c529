"""A server that speaks the OpenAI protocol, whose model calls the tool `act` a few times and then answers."""

from __future__ import annotations

import json
from typing import Any

from tests.loopback_server import LoopbackServer, QuietHandler


class ModelServer(LoopbackServer):
    """`num_uses`: the uses of the tool in a conversation; the n-th, from 0, has the argument n. `num_asked`: turns."""

    def __init__(self, num_uses: int) -> None:
        self.num_uses = num_uses
        self.num_asked = 0

    def handler(self) -> type[_Handler]:
        return _Handler

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    def message(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        turn = sum(one["role"] == "assistant" for one in messages)
        return self.use("act", turn) if turn < self.num_uses else self.answer(turn)

    def answer(self, turn: int) -> dict[str, Any]:
        return {"role": "assistant", "content": f"done after {turn}"}

    def use(self, tool: str, step: int) -> dict[str, Any]:
        function = {"name": tool, "arguments": json.dumps({"step": step})}
        return {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": f"x{self.num_asked}", "function": function}],
        }


class _Handler(QuietHandler):
    owner: ModelServer

    def do_GET(self) -> None:
        self._send({"data": [{"id": "m"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
        self.owner.num_asked += 1
        message = self.owner.message(body["messages"])
        reason = "tool_calls" if "tool_calls" in message else "stop"
        choice = {"index": 0, "message": message, "finish_reason": reason}
        self._send({"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 3}})

    def _send(self, value: Any) -> None:
        body = json.dumps(value).encode()
        try:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the client was killed
