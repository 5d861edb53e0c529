"""The HTTP client that the protocol's library asks with.

Owns bounds on answers: a JSON answer of any length would be read whole. Streams of events are bounded by the library,
event by event.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import cast

import httpx2

from sundog.operators.mcp.program import MAX_MESSAGE_BYTES

CONNECT_TIMEOUT_S = 30.0


def web_client(headers: Mapping[str, str], on_refusal: Callable[[str], None]) -> httpx2.AsyncClient:
    """Return a client whose answers are bounded; a call's own time limit bounds the wait for one. `on_refusal` gets the
    status of each answer that is a failure, which the protocol's library drops."""

    async def look(response: httpx2.Response) -> None:
        if response.status_code >= 400:
            on_refusal(f"{response.status_code} {response.reason_phrase}".rstrip())
        _bound(response)

    return httpx2.AsyncClient(
        # An answer is counted as it is read, so it must not be a small one that unpacks to a large one.
        headers={"Accept-Encoding": "identity", **headers},
        timeout=httpx2.Timeout(CONNECT_TIMEOUT_S, read=None),
        event_hooks={"response": [look]},
    )


def _bound(response: httpx2.Response) -> None:
    if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
        response.stream = _BoundedStream(cast(httpx2.AsyncByteStream, response.stream))


class _BoundedStream(httpx2.AsyncByteStream):
    """This class hands on another stream until it is too long."""

    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        num_bytes = 0
        async for chunk in self._inner:
            num_bytes += len(chunk)
            if num_bytes > MAX_MESSAGE_BYTES:
                raise httpx2.StreamError(f"the answer has more than {MAX_MESSAGE_BYTES:,} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()
