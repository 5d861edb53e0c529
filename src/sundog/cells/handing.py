"""The servers of engines with a pool, handed to the cells of a run: the driver watches a pool, and cells are told.

Owns both sides, and the word between them. Who gets which server is decided in cluster.hands. A server that changes
hands ends what runs there for its former cell beside what the new one begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from sundog.cluster.hands import HandBook, ServerHand
from sundog.deployment import opened, pool_of, used_engines
from sundog.errors import ConfigError
from sundog.execution.coming_replicas import WatchOf
from sundog.execution.pool_shares import PoolShares
from sundog.ir.logical import EngineBlock
from sundog.ir.physical import PhysicalPlan
from sundog.ir.pool_names import engine_pool
from sundog.servers.replica_watch import (
    ReplicaFound,
    ReplicaLeaving,
    ReplicaNews,
    ReplicaVanished,
    ReplicaWatch,
    ToldReplicas,
)


@dataclass(frozen=True, slots=True)
class SetServers:
    """Tell a cell which servers of an engine it uses. It obeys the highest number that it has seen."""

    cell: str
    engine: str
    number: int
    hand: ServerHand


class ServerHands:
    """The driver's side. `tell` carries a word to its cell."""

    def __init__(
        self, plan: PhysicalPlan, num_cells: int, watch_of: WatchOf, tell: Callable[[SetServers], None]
    ) -> None:
        """Raise ConfigError where a pool cannot be watched from here, or its servers have too few places."""
        blocks = [block for block in used_engines(plan) if pool_of(block) is not None]
        for block in blocks:
            _check_places(block, num_cells)
        self._watches: dict[str, ReplicaWatch] = {block.name: watch_of(block) for block in blocks}
        self._books = {block.name: HandBook() for block in blocks}
        self._tell = tell
        self._number = 0

    def join(self, cell: str) -> None:
        """A cell can be told from now on."""
        for engine, book in self._books.items():
            self._tell_all(engine, book.cell_came(cell))

    def gone(self, cell: str) -> None:
        """Give the servers of a cell to others, as nothing of it runs any more."""
        for engine, book in self._books.items():
            self._tell_all(engine, book.cell_went(cell))

    async def follow(self) -> None:
        """Watch all pools, until cancelled. SundogError where nothing will be heard of one."""
        await asyncio.gather(*(self._follow(engine, watch) for engine, watch in self._watches.items()))

    def take(self, engine: str, news: ReplicaNews) -> None:
        """Take up what has happened to a server."""
        book = self._books[engine]
        match news:
            case ReplicaFound(base_url=url):
                self._tell_all(engine, book.server_came(url))
            case ReplicaLeaving(base_url=url):
                self._tell_all(engine, book.server_leaves(url))
            case ReplicaVanished(base_url=url):
                self._tell_all(engine, book.server_went(url))

    async def _follow(self, engine: str, watch: ReplicaWatch) -> None:
        async with aclosing(watch.watch()) as heard:
            async for news in heard:
                self.take(engine, news)

    def _tell_all(self, engine: str, hands: Mapping[str, ServerHand]) -> None:
        for cell, hand in hands.items():
            self._number += 1
            self._tell(SetServers(cell, engine, self._number, hand))


class CellServers:
    """A cell's side: `watch_of` is what its replicas are heard from."""

    def __init__(self, plan: PhysicalPlan) -> None:
        self._blocks = {block.name: block for block in plan.logical.engines}
        self._told = {name: ToldReplicas() for name in self._blocks}
        self._urls: dict[str, set[str]] = {}
        self._heard: dict[str, int] = {}

    def watch_of(self, block: EngineBlock) -> ReplicaWatch:
        return self._told[block.name]

    def hear(self, word: SetServers, pools: PoolShares) -> None:
        """Take up servers, and leave those that are no longer handed here. An earlier word than the last one says
        nothing."""
        engine, hand = word.engine, word.hand
        if word.number <= self._heard.get(engine, 0):
            return
        self._heard[engine] = word.number
        _, options = opened(self._blocks[engine])
        pools.share(engine_pool(engine), max(1, options.max_concurrency // hand.num_sharing))
        before, now = self._urls.get(engine, set()), set(hand.urls)
        self._urls[engine] = now
        self._tell(engine, ReplicaFound, now - before)
        self._tell(engine, ReplicaLeaving, before - now - set(hand.gone))
        # It says nothing of servers that it does not use.
        self._tell(engine, ReplicaVanished, hand.gone)

    def _tell(self, engine: str, kind: Callable[[str], ReplicaNews], urls: Collection[str]) -> None:
        for url in sorted(urls):
            self._told[engine].tell(kind(url))


def _check_places(block: EngineBlock, num_cells: int) -> None:
    _, options = opened(block)
    if options.max_concurrency < num_cells:
        raise ConfigError(
            f"a server of the engine '{block.name}' takes {options.max_concurrency} requests at once, and {num_cells} "
            "cells want one each while there is one server",
            where=block.location,
            hint=f"take at most {options.max_concurrency} cells, or write a larger max_concurrency",
        )
