"""The pools of a run: its engines, started, and the limits of its tools.

Owns opening and closing of replicas and operators, and the names of replicas. Never picks a replica, nor when a worker
loads one; the core does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from sundog.deployment import num_replicas, opened, pool_of, tool_limits, used_engines
from sundog.engines.base import Engine, EngineOptions
from sundog.engines.pool import PooledKind
from sundog.host.replicas import replica_added, shared_replica
from sundog.ir.logical import EngineBlock
from sundog.ir.physical import PhysicalPlan
from sundog.ir.pool_names import engine_of, engine_pool
from sundog.operators.base import Operator
from sundog.sched.events import ReplicaAdded, ReplicaLimited
from sundog.secrets import Secrets

if TYPE_CHECKING:
    from sundog.servers.run_servers import RunServers


NO_SERVER = "http://no.server.invalid/v1"


async def start_all(engines: Iterable[Engine]) -> None:
    """Start all at once. The first failure is raised when none starts any more: what is closed must not come up after
    that."""
    starting = [asyncio.ensure_future(engine.start()) for engine in engines]
    try:
        await asyncio.gather(*starting)
    except BaseException:
        for one in starting:
            one.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        raise


class RunPools:
    """Replicas by id, one pool per engine block and per tool. `engines`: those that are started. `by_pool`: one of
    each pool that has had one, for what all replicas of a pool know, as the tokens of a prompt. `loads_s`: by pool,
    what each load on a worker took. `servers`: those of the engines that are servers of ours."""

    def __init__(
        self, plan: PhysicalPlan, operators: Mapping[str, Operator], secrets: Secrets, servers: RunServers
    ) -> None:
        self._plan = plan
        self._operators = operators
        self._secrets = secrets
        self.servers = servers
        self.engines: dict[str, Engine] = {}
        self.by_pool: dict[str, Engine] = {}
        self.loads_s: dict[str, list[float]] = {}
        self._options: dict[str, EngineOptions] = {}
        self._num_come: dict[str, int] = {}
        self._broken_off: set[str] = set()
        #: By pool, how many calls each replica takes at once from this process, where others have the rest.
        self.shares = dict(plan.shares)

    async def start(self) -> None:
        """Start every engine that a step uses and no worker loads; the first failure is raised, after the others are
        closed."""
        try:
            staying = [block for block in used_engines(self._plan) if block.workers is None and pool_of(block) is None]
            await self.servers.up(staying)
            for block in staying:
                for number in range(num_replicas(block)):
                    self._open(block, str(number), number)
            for block in self.coming:
                # It counts tokens until the first server has come.
                self.by_pool[engine_pool(block.name)] = self._at(block, NO_SERVER)
            await start_all(self.engines.values())
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Close engines, then servers, then operators: all of them, also where one fails."""
        async with AsyncExitStack() as left:
            # It goes from the last to the first.
            for operator in self._operators.values():
                left.push_async_callback(operator.close)
            left.push_async_callback(self.servers.down)
            for replica_id, engine in reversed(self.engines.items()):
                if replica_id not in self._broken_off:
                    left.push_async_callback(engine.close)

    async def load(self, worker_id: str, pool: str) -> ReplicaAdded:
        """Start the engine of `pool` on a worker; the event's time is 0. SundogError when it cannot be started; then it
        is closed again."""
        block = next(block for block in self._plan.logical.engines if engine_pool(block.name) == pool)
        replica_id = self._open(block, worker_id, 0)
        engine, begin_s = self.engines[replica_id], asyncio.get_running_loop().time()
        try:
            await engine.start()
        except BaseException:
            del self.engines[replica_id]
            await engine.close()
            raise
        self.loads_s.setdefault(pool, []).append(asyncio.get_running_loop().time() - begin_s)
        self.by_pool[pool] = engine
        return self._added(0.0, replica_id, engine, worker_id)

    @property
    def coming(self) -> list[EngineBlock]:
        """Return the blocks of engines whose servers come and go."""
        return [block for block in used_engines(self._plan) if pool_of(block) is not None]

    async def attach(self, block: EngineBlock, base_url: str) -> ReplicaAdded:
        """Start the engine of a server that has come; the event's time is 0. SundogError when it cannot be started;
        then it is closed again."""
        number = self._num_come[block.name] = self._num_come.get(block.name, -1) + 1
        replica_id, engine = f"{block.name}/{number}", self._at(block, base_url)
        try:
            await engine.start()
        except BaseException:
            await engine.close()
            raise
        self.engines[replica_id], self._options[replica_id] = engine, opened(block)[1]
        self.by_pool[engine_pool(block.name)] = engine
        return self._added(0.0, replica_id, engine)

    async def break_off(self, replica_id: str) -> None:
        """Let what runs on a replica fail, as its server is gone; it is unloaded as all others."""
        self._broken_off.add(replica_id)
        await self.engines[replica_id].close()

    async def unload(self, replica_id: str) -> None:
        engine = self.engines.pop(replica_id)
        if replica_id not in self._broken_off:
            await engine.close()

    def residents(self) -> dict[str, tuple[str, ...]]:
        """Return by worker the pools of the engines loaded there."""
        found: dict[str, tuple[str, ...]] = {}
        for block in self._plan.logical.engines:
            for replica_id in self.engines:
                name, _, worker_id = replica_id.rpartition("/")
                if block.workers is not None and name == block.name:
                    found[worker_id] = (*found.get(worker_id, ()), engine_pool(name))
        return found

    def names(self) -> dict[str, str]:
        """Return the pool of each replica that is started."""
        return {replica_id: _pool_of(replica_id) for replica_id in self.engines}

    def replicas(self, time_s: float) -> Iterator[ReplicaAdded]:
        """Yield the events that tell the core what there is."""
        for replica_id, engine in self.engines.items():
            yield self._added(time_s, replica_id, engine)
        for pool, max_concurrency in tool_limits(self._plan, self._operators).items():
            yield ReplicaAdded(time_s, pool, pool, self.shares.get(pool, max_concurrency))

    def share(self, time_s: float, pool: str, amount: int) -> Iterator[ReplicaLimited]:
        """Let each replica of a pool take so many calls at once from this process, those that come later too; yield
        the events that tell the core. The first share is the plan's."""
        self.shares[pool] = amount
        if engine_of(pool) is None:
            yield ReplicaLimited(time_s, pool, amount)
        for replica_id, engine in self.engines.items():
            if _pool_of(replica_id) == pool:
                added = self._added(time_s, replica_id, engine)
                yield ReplicaLimited(time_s, replica_id, added.max_concurrency, added.max_tokens_in_flight)

    def _open(self, block: EngineBlock, place: str, number: int) -> str:
        (kind, options), replica_id = opened(block), f"{block.name}/{place}"
        engine = self.servers.attach(replica_id) or kind.open(options, number, self._secrets)
        self.engines[replica_id] = engine
        self._options[replica_id] = options
        if block.workers is None:
            self.by_pool[engine_pool(block.name)] = engine
        return replica_id

    def _at(self, block: EngineBlock, base_url: str) -> Engine:
        kind, options = opened(block)
        assert isinstance(kind, PooledKind), f"{block.name} has no pool"
        return kind.at(options, base_url, self._secrets)

    def _added(self, time_s: float, replica_id: str, engine: Engine, worker_id: str | None = None) -> ReplicaAdded:
        pool, options = _pool_of(replica_id), self._options[replica_id]
        added = replica_added(time_s, replica_id, pool, options, engine, worker_id)
        share = self.shares.get(pool)
        return added if share is None else shared_replica(added, share)


def _pool_of(replica_id: str) -> str:
    return engine_pool(replica_id.rpartition("/")[0])
