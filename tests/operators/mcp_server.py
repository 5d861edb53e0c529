"""A web server with tools of the MCP library's own making: they answer, hang, refuse and send pictures."""

from __future__ import annotations

import asyncio
import socket
import threading
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.types import CallToolResult, ImageContent, TextContent, ToolAnnotations
from pydantic import BaseModel

from tests.operators.conformance import WAIT_S


class Weather(BaseModel):
    """The data that a tool gives."""

    city: str
    degrees: int


class WebServer:
    """A server on the loopback, in a thread of its own."""

    def __init__(self, seen: Path) -> None:
        self._seen = seen
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/mcp"
        app = make_server(self).streamable_http_app()
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none", timeout_graceful_shutdown=1))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self.num_hanging = 0

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(WAIT_S)
        self._socket.close()


def make_server(web: WebServer) -> MCPServer:
    server = MCPServer("tests")

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def weather(city: str) -> Weather:
        """Tell the weather of a city."""
        return Weather(city=city, degrees=len(city))

    @server.tool(annotations=ToolAnnotations(read_only_hint=False))
    def order(item: str) -> str:
        return f"ordered {item}"

    @server.tool()
    def echo(text: str) -> str:
        return text

    @server.tool()
    def refuse(why: str) -> str:
        raise ValueError(f"no: {why}")

    @server.tool()
    async def hang() -> str:
        web.num_hanging += 1
        try:
            await asyncio.sleep(3600)
        finally:
            web.num_hanging -= 1
        return "never"

    @server.tool()
    def large(num_bytes: int) -> str:
        return "x" * num_bytes

    @server.tool()
    def picture() -> CallToolResult:
        image: Any = ImageContent(type="image", data="AAAA", mime_type="image/png")
        return CallToolResult(content=[TextContent(type="text", text="a dot"), image])

    return server
