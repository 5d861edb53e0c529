"""Replicas that come and go while rows run: their engines are opened, watched, drained and closed as their servers do.

Owns what each piece of news of a server leads to, and when a pool has been empty for too long. Never looks for a
server; the watches of sundog.servers do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from sundog.deployment import pool_of
from sundog.engines.pool import ServerPool
from sundog.engines.served import Watched
from sundog.errors import ConfigError, EngineUnavailable, SundogError
from sundog.execution.pools import RunPools
from sundog.host.beside import beside
from sundog.host.driver import Driver
from sundog.host.health import until_lost
from sundog.host.waits import Waits, span
from sundog.ir.logical import EngineBlock
from sundog.ir.pool_names import engine_pool
from sundog.sched.events import PoolOpened, ReplicaDown, ReplicaDraining
from sundog.servers.replica_watch import ReplicaFound, ReplicaLeaving, ReplicaNews, ReplicaVanished, ReplicaWatch

RETRY_S = 2.0
"""A server that is said to be ready, and is not, is asked again after that time."""
LOOK_S = 0.5

WatchOf = Callable[[EngineBlock], ReplicaWatch]
"""Gives what hears of the servers of an engine whose servers come and go."""


def watch_of_source(block: EngineBlock) -> ReplicaWatch:
    """Return the watch that the block's pool names; ConfigError where none can be had here."""
    pool = pool_of(block)
    assert pool is not None, f"{block.name} has no pool"
    if pool.ray is not None:
        raise ConfigError(
            f"the servers of the engine '{block.name}' are started on a Ray cluster",
            where=block.location,
            hint="run the flow with --on ray, or write base_url or pool: {kubernetes: namespace/service}",
        )
    from sundog.servers.kubernetes import ClusterAPI, ServiceEndpoints  # few runs have such a pool

    return ServiceEndpoints(pool, ClusterAPI.of_pod())


@dataclass(slots=True)
class _ComingPool:
    """One pool, and those that look after its servers."""

    block: EngineBlock
    watch: ReplicaWatch
    options: ServerPool
    #: Since when no server takes requests, None while one does.
    empty_since_s: float | None = 0.0
    #: The reason why a server that was found could not be used last.
    failure: SundogError | None = None
    #: By base_url.
    carers: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    #: The replica of each server that takes requests, by base_url.
    replicas: dict[str, str] = field(default_factory=dict)
    #: The replicas that take none any more, and may run some, by base_url.
    draining: dict[str, list[str]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return engine_pool(self.block.name)


class ComingReplicas:
    """This class looks after the replicas of all pools of a run whose servers come and go."""

    def __init__(self, pools: RunPools, driver: Driver, waits: Waits, watch_of: WatchOf = watch_of_source) -> None:
        """Raise ConfigError where nothing can be heard of a pool's servers."""
        self._pools = pools
        self._driver = driver
        self._waits = waits
        self._coming = [_ComingPool(block, watch_of(block), _options(block)) for block in pools.coming]

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Let replicas come and go while the context lasts; calls of a pool that has none wait."""
        async with AsyncExitStack() as stack:
            for pool in self._coming:
                pool.empty_since_s = self._driver.now_s()
                self._driver.tell(PoolOpened(self._driver.now_s(), pool.name))
                stack.push_async_callback(_end, pool)
                await stack.enter_async_context(beside(self._hear(pool), self._mind_emptiness(pool)))
            yield

    def num_calls(self) -> dict[str, dict[str, int]]:
        """Return by engine and base_url how many calls run on each server or wait for it, those that take no more
        included."""
        counts: dict[str, dict[str, int]] = {}
        for pool in self._coming:
            views = {
                one.replica_id: one.num_running + one.num_waiting for one in self._driver.pools[pool.name].replicas
            }
            of_engine = counts[pool.block.name] = {url: views.get(one, 0) for url, one in pool.replicas.items()}
            for url, replica_ids in pool.draining.items():
                of_engine[url] = of_engine.get(url, 0) + sum(views.get(one, 0) for one in replica_ids)
        return counts

    async def _hear(self, pool: _ComingPool) -> None:
        try:
            async with aclosing(pool.watch.watch()) as news:
                async for one in news:
                    await self._take(pool, one)
        except SundogError as error:
            self._driver.lose_pool(pool.name, error)

    async def _take(self, pool: _ComingPool, news: ReplicaNews) -> None:
        url = news.base_url
        match news:
            case ReplicaFound() if url not in pool.carers:
                pool.carers[url] = asyncio.ensure_future(self._care(pool, url))
            case ReplicaLeaving():
                await _cancel(pool.carers.pop(url, None))
                self._drain(pool, url)
            case ReplicaVanished():
                await _cancel(pool.carers.pop(url, None))
                await self._break_off(pool, url)

    async def _care(self, pool: _ComingPool, url: str) -> None:
        """Use a server for as long as it is there. One that does not answer is tried again until its end is told."""
        while True:
            try:
                added = await self._pools.attach(pool.block, url)
            except SundogError as error:
                pool.failure = error
                await asyncio.sleep(RETRY_S)
                continue
            added = replace(added, time_s=self._driver.now_s())
            pool.replicas[url], pool.empty_since_s, pool.failure = added.replica_id, None, None
            self._waits.end_lack(pool.name)
            self._driver.tell(added)
            engine = self._pools.engines[added.replica_id]
            if not isinstance(engine, Watched):
                return
            pool.failure = await until_lost(added.replica_id, pool.name, engine, self._pools.servers, self._driver)
            await self._break_off(pool, url)

    def _drain(self, pool: _ComingPool, url: str) -> None:
        """Start nothing more there; what runs ends, and the core asks for its end then."""
        replica_id = pool.replicas.pop(url, None)
        if replica_id is None:
            return
        pool.draining.setdefault(url, []).append(replica_id)
        if not pool.replicas:
            pool.empty_since_s = self._driver.now_s()
        self._driver.tell(ReplicaDraining(self._driver.now_s(), replica_id))

    async def _break_off(self, pool: _ComingPool, url: str) -> None:
        """Let all that runs there fail, so that it runs elsewhere."""
        self._drain(pool, url)
        for replica_id in pool.draining.pop(url, ()):
            if replica_id in self._pools.engines:
                self._driver.tell(ReplicaDown(self._driver.now_s(), replica_id))
                await self._pools.break_off(replica_id)

    async def _mind_emptiness(self, pool: _ComingPool) -> None:
        """Tell of calls that wait for the first server to come, and give them up when none comes."""
        while True:
            await asyncio.sleep(LOOK_S)
            since_s, now_s = pool.empty_since_s, self._driver.now_s()
            num_calls = 0
            if since_s is not None:
                num_calls = sum(request.pool == pool.name for request in self._driver.requests.values())
            if since_s is None or num_calls == 0:
                # Nobody misses a server.
                pool.empty_since_s = None if since_s is None else now_s
                self._waits.end_lack(pool.name)
                continue
            limit_s = pool.options.max_empty_s
            self._waits.lack(
                pool.name, num_calls, now_s - since_s, f"{pool.options.shown}, for {span(limit_s)} at most"
            )
            if now_s - since_s >= limit_s:
                self._driver.lose_pool(pool.name, _emptiness(pool))
                self._waits.end_lack(pool.name)


def _options(block: EngineBlock) -> ServerPool:
    pool = pool_of(block)
    assert pool is not None, f"{block.name} has no pool"
    return pool


def _emptiness(pool: _ComingPool) -> SundogError:
    """Return why no call can run: what the last server that was found said, if there was any."""
    what = f"{pool.options.shown} has had no server that answers for {span(pool.options.max_empty_s)}"
    last = "" if pool.failure is None else f"; the last one: {pool.failure}"
    return EngineUnavailable(f"{what}{last}", hint="a larger max_empty_s of the pool waits longer", retryable=False)


async def _end(pool: _ComingPool) -> None:
    for carer in pool.carers.values():
        await _cancel(carer)


async def _cancel(carer: asyncio.Task[None] | None) -> None:
    if carer is not None:
        carer.cancel()
        with suppress(asyncio.CancelledError):
            await carer
