"""The connections of one run to its MCP servers.

Owns which calls share a connection: all calls of a server that keeps no state; one call each, or whoever holds the
session longer, where it does. A connection that has ended is replaced when the next call comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sundog.operators.mcp.address import ServerAddress
from sundog.operators.mcp.catalog import ToolList
from sundog.operators.mcp.server import MCPServer
from sundog.secrets import Secrets


class Sessions:
    """This class opens connections when they are first needed and ends them all in `close`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shared: dict[ServerAddress, MCPServer] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def shared(self, address: ServerAddress, secrets: Secrets) -> MCPServer:
        """Return the connection that all calls of a server share."""
        server = self._shared.get(address)
        if server is None or not server.is_usable:
            if server is not None:
                self._end(server)
            server = self._shared[address] = MCPServer(address, self._folder, secrets)
        return server

    @asynccontextmanager
    async def own(self, address: ServerAddress, secrets: Secrets) -> AsyncIterator[MCPServer]:
        """Give a connection that nobody else uses; it ends with the block."""
        server = MCPServer(address, self._folder, secrets)
        try:
            yield server
        finally:
            await asyncio.shield(self._end(server))

    async def close(self) -> None:
        """End all connections."""
        shared, self._shared = self._shared, {}
        for server in shared.values():
            self._end(server)
        if self._ending:
            await asyncio.gather(*self._ending)

    def _end(self, server: MCPServer) -> asyncio.Task[None]:
        task = asyncio.create_task(server.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task


async def listed_tools(address: ServerAddress, folder: Path, secrets: Secrets) -> ToolList:
    """Return the tools of a server, asked for by a connection of its own within the time that opening may take;
    OperatorError where there is no list."""
    server = MCPServer(address, folder, secrets)
    try:
        return await server.open()
    finally:
        await server.close()
