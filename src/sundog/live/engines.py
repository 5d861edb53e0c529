"""The engines and tools of a live host: each is opened once, for all flows and model calls that use it.

Owns opening and closing of replicas, and that one name means one engine. Never picks a replica; the core does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from sundog.deployment import num_replicas, opened, pool_of
from sundog.engines.base import Engine, EngineOptions
from sundog.errors import ConfigError
from sundog.execution.pools import start_all
from sundog.host.driver import Driver
from sundog.host.health import Health
from sundog.host.replicas import replica_added
from sundog.ir.logical import EngineBlock
from sundog.ir.pool_names import engine_of, engine_pool
from sundog.ledger.charges import Tariff
from sundog.sched.events import ReplicaAdded
from sundog.secrets import Secrets
from sundog.servers.run_servers import RunServers
from sundog.servers.servers import Servers


class LiveEngines:
    """This class holds what is opened. `engines`: by replica; `by_pool`: one of each pool; `options`: of each pool."""

    def __init__(self, servers: Servers, secrets: Secrets) -> None:
        self._secrets = secrets
        self._servers = RunServers(servers)
        self._opened = AsyncExitStack()
        self._blocks: dict[str, EngineBlock] = {}
        self._tools: dict[str, int] = {}
        self._identities: dict[str, Mapping[str, Any]] = {}
        self.engines: dict[str, Engine] = {}
        self.by_pool: dict[str, Engine] = {}
        self.options: dict[str, EngineOptions] = {}
        #: By pool, what its tokens cost.
        self.tariffs: dict[str, Tariff] = {}

    def check(self, blocks: Sequence[EngineBlock]) -> None:
        """Raise ConfigError where a block has the name of another engine that is open, runs on workers or has a
        pool."""
        for block in blocks:
            if block.workers is not None:
                what = f"the engine '{block.name}' is loaded on workers in turns, which a live host does not do"
                hint = f"take `on: {block.workers}` away and give it `replicas`"
                raise ConfigError(what, where=block.location, hint=hint)
            if pool_of(block) is not None:
                what = f"the servers of the engine '{block.name}' come and go, which a live host does not follow"
                raise ConfigError(what, where=block.location, hint="write base_url in place of `pool`")
            known = self._blocks.get(block.name)
            if known is not None and (known.kind, dict(known.options)) != (block.kind, dict(block.options)):
                what = f"two engines of different options are named '{block.name}'"
                other = "" if known.location is None else f"; the other one is at {known.location}"
                raise ConfigError(what, where=block.location, hint=f"give one of them another name{other}")

    async def open(self, blocks: Sequence[EngineBlock], driver: Driver) -> None:
        """Start the engines of some blocks that are not open, and tell the driver. The first failure is raised after
        the others are closed."""
        self.check(blocks)
        new = [block for block in blocks if block.name not in self._blocks]
        await self._servers.up(new)
        for block in new:
            started = await self._start(block)
            self._blocks[block.name] = block
            self.engines |= started
            pool = engine_pool(block.name)
            kind, self.options[pool] = opened(block)
            self.tariffs[pool] = Tariff.of(self.options[pool].price)
            self._identities[pool] = kind.identity(self.options[pool])
            self.by_pool[pool] = next(iter(started.values()))
            for replica_id, engine in started.items():
                driver.tell(replica_added(driver.now_s(), replica_id, pool, self.options[pool], engine))
            pools = dict.fromkeys(started, pool)
            await self._opened.enter_async_context(Health(started, pools, self._servers, driver).watching())

    def open_tools(self, limits: Mapping[str, int], driver: Driver) -> None:
        """Tell the driver of tools that nobody has used so far, and how many calls each takes at once."""
        for pool, max_concurrency in limits.items():
            if pool not in self._tools:
                self._tools[pool] = max_concurrency
                driver.tell(ReplicaAdded(driver.now_s(), pool, pool, max_concurrency))

    def block(self, pool: str) -> EngineBlock:
        """Return the block of an engine that is open."""
        name = engine_of(pool)
        assert name is not None, f"{pool} is the pool of a tool"
        return self._blocks[name]

    def identity(self, pool: str) -> Mapping[str, Any]:
        """Return what decides the answers of an engine."""
        return self._identities[pool]

    def model_of(self, pool: str) -> str:
        """Return the model of an engine's pool, "" of a tool's."""
        options = self.options.get(pool)
        return "" if options is None else options.model

    async def close(self) -> None:
        """Close all of them, also where one fails."""
        async with AsyncExitStack() as left:
            left.push_async_callback(self._servers.down)
            for engine in self.engines.values():
                left.push_async_callback(engine.close)
            left.push_async_callback(self._opened.aclose)

    async def _start(self, block: EngineBlock) -> dict[str, Engine]:
        kind, options = opened(block)
        made: dict[str, Engine] = {}
        for number in range(num_replicas(block)):
            replica_id = f"{block.name}/{number}"
            made[replica_id] = self._servers.attach(replica_id) or kind.open(options, number, self._secrets)
        try:
            await start_all(made.values())
        except BaseException:
            for engine in made.values():
                await engine.close()
            raise
        return made
