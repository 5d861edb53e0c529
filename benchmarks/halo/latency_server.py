"""The HTTP server of the workloads: small JSON answers after a Gamma-distributed while.

It runs on the loop of the arm that is measured, in modelled time as well. Latency and answer depend on the request
alone, so that all arms meet the same ones.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SHAPE = 2.0


class LatencyServer:
    """`num_requests` so far; `base_url` while it serves."""

    def __init__(self, mean_s: float) -> None:
        self.base_url = ""
        self.num_requests = 0
        self._mean_s = mean_s
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[LatencyServer]:
        listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            listener.close()
            for writer in self._connections.values():
                writer.close()
            await asyncio.gather(*self._connections)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._connections[task] = writer
        task.add_done_callback(self._connections.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.num_requests += 1
                target = head.split(b" ", 2)[1].decode()
                chance = random.Random(target)
                await asyncio.sleep(chance.gammavariate(SHAPE, 1 / SHAPE) * self._mean_s)
                body = json.dumps(
                    {"entries": [chance.randint(1, 99) for _ in range(4)], "source": target[:60]}
                ).encode()
                lines = ("HTTP/1.1 200 OK", "Content-Type: application/json", f"Content-Length: {len(body)}", "", "")
                writer.write("\r\n".join(lines).encode() + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            """The client has gone."""
        finally:
            writer.close()
