"""Pages of servers on this machine, which no proxy leads to.

Owns their client. Never says what a page means.
"""

from __future__ import annotations

from sundog.transport.answer import WholeAnswer
from sundog.transport.client import MAX_PAGE_BYTES, Client, Request


class LocalPages:
    """One client for all pages of one command."""

    def __init__(self) -> None:
        self._client = Client(proxy="")

    async def get(self, url: str, *, within_s: float) -> WholeAnswer:
        """Return the whole page; a TransportFault when there is none."""
        return await self._client.fetch(Request("GET", url), max_bytes=MAX_PAGE_BYTES, within_s=within_s)

    async def close(self) -> None:
        await self._client.close()
