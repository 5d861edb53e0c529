"""A server of chats that counts what it is asked, and keeps everybody waiting while its gate is shut."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.e2e.counting_server import Asked, CountingServer
from tests.loopback_server import QuietHandler


class ChatServer(CountingServer):
    """It has one model, `m`, whose answer to a request is what `answer` returns for its body."""

    def __init__(self, answer: Callable[[Mapping[str, Any]], str]) -> None:
        super().__init__()
        self.answer = answer

    def handler(self) -> type[Any]:
        return _Chat

    def reply(self, body: Mapping[str, Any]) -> tuple[str, str]:
        """Return the type and the text of what answers a request."""
        chunk = {"choices": [{"index": 0, "delta": {"content": self.answer(body)}, "finish_reason": "stop"}]}
        return "text/event-stream", f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"


class _Chat(QuietHandler):
    owner: ChatServer

    def do_GET(self) -> None:
        self._send("application/json", json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        # What it costs, it costs when it comes, whatever becomes of the client.
        kind, text = self.owner.reply(body)
        self.owner.receive(Asked("POST", 0, None))
        self._send(kind, text)

    def _send(self, kind: str, text: str) -> None:
        try:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())
        except OSError:
            self.close_connection = True  # the client was killed
