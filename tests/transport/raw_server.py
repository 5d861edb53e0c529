"""Servers that send any bytes: one scripted answer for each request, on the loop of the test. And an HTTP proxy."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class RawServer:
    """`script`: the answers in order, the last one again and again. `heads`: of the requests, as they came."""

    script: list[bytes | Answering]
    origin: str = ""
    heads: list[str] = field(default_factory=list)
    num_connections: int = 0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        for task in (left := list(self.tasks)):
            task.cancel()
        if left:
            await asyncio.wait(left)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                self.heads.append(head)
                lengths = [line[15:] for line in head.split("\r\n") if line.lower().startswith("content-length:")]
                await reader.readexactly(int(lengths[0]) if lengths else 0)
                answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                if isinstance(answer, bytes):
                    writer.write(answer)
                else:
                    await answer(reader, writer)
                if writer.is_closing():
                    break
        writer.close()


@asynccontextmanager
async def serving(*script: bytes | Answering, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    server = RawServer(list(script))
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls, backlog=512)
    port = listener.sockets[0].getsockname()[1]
    server.origin = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield server
    finally:
        listener.close()
        await server.close()


async def close_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


def then_close(data: bytes) -> Answering:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        writer.close()

    return answer


def then_wait(data: bytes, is_gone: asyncio.Event) -> Answering:
    """Sends `data`, and nothing more until the client closes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await reader.read()
        is_gone.set()
        writer.close()

    return answer


async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
    """Do what a proxy does after CONNECT."""
    there, to = await asyncio.open_connection(host, port)
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                target.write(data)
        target.close()

    await asyncio.gather(copy(reader, to), copy(there, writer))


@asynccontextmanager
async def proxying() -> AsyncIterator[RawServer]:
    """A proxy that tunnels CONNECT, and answers all else itself."""
    server = RawServer([OK])

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, target, _ = server.heads[-1].split(" ", 2)
        if method != "CONNECT":
            writer.write(OK)
            return
        host, _, port = target.rpartition(":")
        await tunnel(reader, writer, host, int(port))

    server.script = [answer]
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.origin = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        await server.close()
