"""Connections of a load that are kept: one request after another, each with its whole answer.

Owns the client's half of HTTP/1.1 and nothing that is asked with it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httptools


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer that is whole."""

    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class BrokenOff(Exception):
    """Raised where a connection ends before its answer does; caught by loads, which count it. `num_bytes`: of the
    answer's body that came before."""

    def __init__(self, num_bytes: int) -> None:
        super().__init__("the connection ended before the answer")
        self.num_bytes = num_bytes


def request_bytes(method: str, path: str, body: Any = None, headers: Mapping[str, str] = {}) -> bytes:
    """Return a request; `body` is sent as JSON, None for none."""
    sent = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {len(sent)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + sent


class Connection(asyncio.Protocol):
    """This class asks on one connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Heard] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(BrokenOff(sum(map(len, self._body))))

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        heard = Heard(self._parser.get_status_code(), b"".join(self._body))
        self._body = []
        self._parser = httptools.HttpResponseParser(self)
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(heard)

    async def ask(self, request: bytes) -> Heard:
        """Return the answer to a request; BrokenOff where it does not come whole."""
        if self._transport is None:
            raise BrokenOff(0)
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def abort(self) -> None:
        """End the connection at once, whatever is on its way."""
        if self._transport is not None:
            self._transport.abort()


async def connected(address: str) -> Connection:
    """Return a new connection to a server; OSError where it cannot be reached."""
    where = urlsplit(address)
    assert where.hostname is not None
    assert where.port is not None
    _, one = await asyncio.get_running_loop().create_connection(Connection, where.hostname, where.port)
    return one


class KeptConnection:
    """This class asks one server, on a new connection where the last one has ended."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: Connection | None = None

    async def ask(self, request: bytes) -> Heard:
        """Return the answer; BrokenOff or OSError where none comes whole."""
        try:
            if self._connection is None:
                self._connection = await connected(self._address)
            return await self._connection.ask(request)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
