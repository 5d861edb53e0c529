"""Servers of one engine that come and go: what is heard of them, and one source that others tell.

Owns the words. Never connects to a server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ReplicaFound:
    """A server is there, or takes requests again."""

    #: Up to and with `/v1`. It is the server's name, too.
    base_url: str


@dataclass(frozen=True, slots=True)
class ReplicaLeaving:
    """A server takes no further request, as its machine will go soon; what runs there may end. It is said of servers
    that have been found."""

    base_url: str


@dataclass(frozen=True, slots=True)
class ReplicaVanished:
    """A server is gone, and what ran there fails. It is said of servers that have been found."""

    base_url: str


ReplicaNews = ReplicaFound | ReplicaLeaving | ReplicaVanished


class ReplicaWatch(Protocol):
    """This class hears of the servers of one engine."""

    def watch(self) -> AsyncGenerator[ReplicaNews, None]:
        """Yield what happens, without end. SundogError where nothing will be heard of any server."""
        ...


class ToldReplicas:
    """This class passes on what somebody else tells: the driver of a run on many machines, who has the servers."""

    def __init__(self) -> None:
        self._news: asyncio.Queue[ReplicaNews] = asyncio.Queue()

    def tell(self, news: ReplicaNews) -> None:
        self._news.put_nowait(news)

    async def watch(self) -> AsyncGenerator[ReplicaNews, None]:
        while True:
            yield await self._news.get()
