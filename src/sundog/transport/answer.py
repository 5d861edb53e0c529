"""An answer as it comes: its head, and its body in pieces or as far as its reader wants it.

Owns the bounds of what is read. Never says what an answer means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sundog.transport.faults import TooLarge, TransportFault
from sundog.transport.proxies import Proxy

if TYPE_CHECKING:
    import aiohttp

MAX_UNWANTED_BYTES = 65_536
REDIRECTS = frozenset({301, 302, 303, 307, 308})
"""Statuses of an answer that names another place to ask."""


@dataclass(frozen=True, slots=True)
class WholeAnswer:
    """An answer with its body."""

    status: int
    reason: str
    #: Looked up without regard to case.
    headers: Mapping[str, str]
    body: bytes


class StreamedAnswer:
    """An answer whose body is still to be read, once: in pieces by iterating, or by one of its methods. Only its
    Opening makes one."""

    def __init__(self, response: aiohttp.ClientResponse, proxy: Proxy | None) -> None:
        self.status = response.status
        self.reason = response.reason or ""
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._proxy = proxy

    def __aiter__(self) -> StreamedAnswer:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece of the body, decompressed; a TransportFault when the body breaks off."""
        try:
            piece = await self._response.content.readany()
        except Exception as error:
            from sundog.transport.translation import transport_fault_of

            fault = transport_fault_of(error, self._proxy)
            if fault is None:
                raise
            raise fault from None
        if not piece:
            raise StopAsyncIteration
        return piece

    async def read(self, max_bytes: int) -> bytes:
        """Return the rest of the body; TooLarge as soon as it has more than `max_bytes`."""
        body = bytearray()
        async for piece in self:
            body += piece
            if len(body) > max_bytes:
                raise TooLarge(max_bytes)
        return bytes(body)

    async def read_start(self, max_bytes: int, within_s: float) -> bytes:
        """Return the beginning of the body: what comes within the time, and no more than `max_bytes` of it; never
        fails."""
        body = bytearray()
        with suppress(TransportFault, TimeoutError):
            async with asyncio.timeout(within_s):
                async for piece in self:
                    body += piece
                    if len(body) >= max_bytes:
                        break
        return bytes(body[:max_bytes])

    async def finish(self, within_s: float) -> None:
        """Read to the end of the body, of which nothing is wanted any more, if it comes at once: then the connection
        can be kept."""
        if not self._response.content.at_eof():
            await self.read_start(MAX_UNWANTED_BYTES, within_s)

    def close(self) -> None:
        """Keep the connection where the body has been read to its end, else close it."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()
