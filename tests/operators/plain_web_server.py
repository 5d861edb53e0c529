"""An MCP server over HTTP without any library, of the protocol's earlier form: it has sessions, and may forget them."""

from __future__ import annotations

import json
from typing import Any

from tests.loopback_server import LoopbackServer, QuietHandler
from tests.operators.plain_mcp_server import answer


class ForgetfulServer(LoopbackServer):
    """`status`: what each use of a tool is answered with; `sessions`: those that it knows."""

    def __init__(self) -> None:
        self.status = 200
        self.sessions: list[str] = []
        self.num_opened = 0
        self.num_uses = 0

    def handler(self) -> type[_Handler]:
        return _Handler

    @property
    def url(self) -> str:
        return f"{self.origin}/mcp"


class _Handler(QuietHandler):
    owner: ForgetfulServer

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        owner = self.owner
        if message["method"] == "initialize":
            owner.num_opened += 1
            owner.sessions.append(f"session-{owner.num_opened}")
            self._reply(200, message, {"mcp-session-id": owner.sessions[-1]})
        elif message["method"] == "server/discover":
            self._reply(200, message)
        elif self.headers.get("mcp-session-id") not in owner.sessions:
            self._reply(404)
        elif message["method"] == "tools/call":
            owner.num_uses += 1
            self._reply(owner.status, message if owner.status == 200 else None)
        else:
            self._reply(200 if "id" in message else 202, message if "id" in message else None)

    def do_GET(self) -> None:
        self._reply(405)

    def do_DELETE(self) -> None:
        self._reply(200)

    def _reply(self, status: int, message: dict[str, Any] | None = None, headers: dict[str, str] | None = None) -> None:
        body = b""
        if message is not None:
            said = answer("well", message["method"], message.get("params") or {})
            body = json.dumps({"jsonrpc": "2.0", "id": message["id"], **said}).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
