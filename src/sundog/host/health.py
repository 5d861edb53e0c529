"""Health: watches the servers of a run's replicas and tells the core what it sees.

Owns when a server counts as down, when one of ours is started again, and when one counts as lost. Never routes: the
core takes requests away from what is down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from sundog.engines.base import Engine
from sundog.engines.served import ReplicaLoad, Watched
from sundog.errors import EngineError, EngineTimeout, EngineUnavailable
from sundog.host.beside import beside
from sundog.host.driver import Driver
from sundog.sched.events import ReplicaDown, ReplicaReported, ReplicaUp

PERIOD_S = 1.0
MAX_SILENT_PROBES = 3
"""A busy server may be silent for a while; one whose connection breaks is down at once."""
STUCK_S = 60.0
"""One of ours that lives and gives no answer for so long is ended and started again."""
FIRST_DELAY_S, MAX_DELAY_S = 1.0, 60.0
MAX_RESTARTS = 5
"""So often in a row; one that has stayed up for STABLE_S begins anew."""
STABLE_S = 300.0


class Restarter(Protocol):
    """The keeper of our servers: servers.run_servers."""

    def is_ours(self, replica_id: str) -> bool: ...
    def is_alive(self, replica_id: str) -> bool: ...
    async def restart(self, replica_id: str) -> None: ...


class Health:
    """This class watches the servers of a run's replicas. `engines` and `pools`: by replica, those that are watched and
    where they belong."""

    def __init__(
        self, engines: Mapping[str, Engine], pools: Mapping[str, str], servers: Restarter, driver: Driver
    ) -> None:
        self._watches = [
            _Watch(replica_id, pools[replica_id], engine, servers, driver)
            for replica_id, engine in engines.items()
            if isinstance(engine, Watched)
        ]

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watches while the context lasts; a bug in watching is raised in its end."""
        async with beside(*(self._watch(watch) for watch in self._watches)):
            yield

    async def _watch(self, watch: _Watch) -> None:
        why = await watch.until_lost()
        others = (one for one in self._watches if one.pool == watch.pool and one is not watch)
        watch.lose(why, is_last=all(one.is_lost for one in others))


async def until_lost(replica_id: str, pool: str, engine: Watched, servers: Restarter, driver: Driver) -> EngineError:
    """Watch one replica that comes and goes, and return why it is lost."""
    return await _Watch(replica_id, pool, engine, servers, driver).until_lost()


class _Watch:
    """One replica's server."""

    def __init__(self, replica_id: str, pool: str, engine: Watched, servers: Restarter, driver: Driver) -> None:
        self.replica_id = replica_id
        self.pool = pool
        self.is_lost = False
        self._engine = engine
        self._servers = servers
        self._driver = driver
        self._num_restarts = 0
        self._restarted_s = 0.0

    async def until_lost(self) -> EngineError:
        """Return why it is lost."""
        while True:
            why = await self._until_down()
            self._driver.tell(ReplicaDown(self._driver.now_s(), self.replica_id))
            lost = await self._until_back(why)
            if lost is not None:
                return lost
            self._driver.tell(ReplicaUp(self._driver.now_s(), self.replica_id))

    def lose(self, why: EngineError, *, is_last: bool) -> None:
        self.is_lost = True
        self._driver.lose(self.replica_id, self.pool, why, is_last=is_last)

    async def _until_down(self) -> EngineError:
        """Report its load now and then; why it is down."""
        num_silent = 0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PERIOD_S):
                    await self._engine.suspicion.wait()
            self._engine.suspicion.clear()
            try:
                self._report(await self._engine.probe())
                num_silent = 0
            except EngineTimeout as error:
                num_silent += 1
                if num_silent == MAX_SILENT_PROBES:
                    return error
            except EngineUnavailable as error:
                return error

    async def _until_back(self, why: EngineError) -> EngineError | None:
        """Return None when it answers again, else why it is lost."""
        down_s = self._driver.now_s()
        while self._driver.now_s() - down_s < self._engine.max_down_s:
            if self._servers.is_ours(self.replica_id) and self._is_dead(down_s):
                if not self._may_restart():
                    return why
                await asyncio.sleep(min(MAX_DELAY_S, FIRST_DELAY_S * 2.0**self._num_restarts))
                try:
                    await self._restart()
                except EngineUnavailable as error:
                    why = error
                down_s = self._driver.now_s()
            try:
                self._report(await self._engine.probe())
                return None
            except EngineError as error:
                why = error
            await asyncio.sleep(PERIOD_S)
        return why

    def _is_dead(self, down_s: float) -> bool:
        return self._driver.now_s() - down_s > STUCK_S or not self._servers.is_alive(self.replica_id)

    def _may_restart(self) -> bool:
        if self._driver.now_s() - self._restarted_s > STABLE_S:
            self._num_restarts = 0
        return self._num_restarts < MAX_RESTARTS

    async def _restart(self) -> None:
        self._num_restarts += 1
        try:
            await self._servers.restart(self.replica_id)
        finally:
            self._restarted_s = self._driver.now_s()

    def _report(self, load: ReplicaLoad) -> None:
        self._driver.tell(
            ReplicaReported(
                self._driver.now_s(),
                self.replica_id,
                load.num_running,
                load.num_waiting,
                load.kv_usage,
                load.num_preemptions,
            )
        )
