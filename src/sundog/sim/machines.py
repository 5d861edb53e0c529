"""The machines of a simulation: replicas that answer in modelled time, loads on workers, and failures.

Owns what is up at each moment, and what it did. Never decides where a call runs; the core does.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from sundog.engines.modelled.block_table import BlockTable
from sundog.engines.modelled.steps import ModelledSteps, SharedProcessor
from sundog.errors import EngineUnavailable, PromptTooLong
from sundog.host.attempt import Attempt
from sundog.host.replicas import UNKNOWN_CACHE_BLOCKS
from sundog.sched.events import ReplicaAdded
from sundog.sim.timeline import PoolLook
from sundog.sim.workload import EngineFleet, ModelledEngine, SimulatedCall

UNKNOWN_BLOCK_TOKENS = 16
"""KV blocks of an engine that tells none have so many tokens."""


@dataclass(slots=True)
class PoolCounts:
    """Counts of the work that a pool has done so far."""

    num_calls: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0
    #: Seconds of all its calls.
    call_s: float = 0.0
    #: Seconds in which steps ran, of replicas that are gone.
    busy_s: float = 0.0
    #: Preemptions of replicas that are gone.
    num_preemptions: int = 0


class SimulatedReplica:
    """One replica that is up."""

    def __init__(self, pool: str, engine: ModelledEngine, device: SharedProcessor | None = None) -> None:
        self.pool = pool
        self.engine = engine
        self.steps: ModelledSteps | None = None
        if engine.seconds is not None:
            self.steps = ModelledSteps(engine.seconds, engine.max_step_tokens, _table(engine), device)
        self.num_running = 0
        self._ending: set[asyncio.Future[None]] = set()

    @property
    def kv_usage(self) -> float | None:
        """The share of its KV blocks that running requests hold; None where its cache has no bound."""
        table = None if self.steps is None else self.steps.replica.table
        if table is None or self.engine.max_kv_tokens is None:
            return None
        return 1.0 - table.num_available / table.num_blocks

    async def answer(self, call: SimulatedCall, on_first_token: Callable[[], None]) -> int:
        """Take as long as the call takes; the prompt's tokens that were cached. EngineUnavailable, retryable, when the
        replica is lost meanwhile; PromptTooLong where it never has room for the call."""
        self.num_running += 1
        try:
            return await self._answer(call, on_first_token)
        finally:
            self.num_running -= 1

    async def _answer(self, call: SimulatedCall, on_first_token: Callable[[], None]) -> int:
        if self.steps is None or call.call_s is not None:
            await self._sleep(call.call_s or 0.0)
            return 0
        counts = call.num_prompt_tokens, call.num_output_tokens
        table = self.steps.replica.table
        if table is not None and sum(counts) > table.num_blocks * table.block_tokens:
            raise PromptTooLong(f"prompt and answer have {sum(counts)} tokens, more than the replica holds")
        num_cached_tokens = 0
        async with aclosing(self.steps.generate(*counts, call.prefix_key)) as told:
            async for job in told:
                num_cached_tokens = job.num_cached_tokens
                if job.num_done == 1:
                    on_first_token()
        return num_cached_tokens

    async def lose(self) -> None:
        """Fail all that runs here."""
        if self.steps is not None:
            await self.steps.close()
        for future in self._ending:
            if not future.done():
                future.set_exception(_lost())

    async def _sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self._ending.add(future)
        timer = loop.call_later(seconds, _wake, future)
        try:
            await future
        finally:
            timer.cancel()
            self._ending.discard(future)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _lost() -> EngineUnavailable:
    return EngineUnavailable("the replica is lost", retryable=True)


def _table(engine: ModelledEngine) -> BlockTable | None:
    if engine.block_tokens is None and engine.max_kv_tokens is None:
        return None
    block_tokens = engine.block_tokens or UNKNOWN_BLOCK_TOKENS
    num_blocks = UNKNOWN_CACHE_BLOCKS if engine.max_kv_tokens is None else engine.max_kv_tokens // block_tokens
    return BlockTable(num_blocks, block_tokens)


class Machines:
    """All replicas by id; a tool's pool is one replica. It is the driver's `Loader`."""

    def __init__(self, engines: Mapping[str, EngineFleet], tools: Mapping[str, int]) -> None:
        self.replicas: dict[str, SimulatedReplica] = {}
        self.counts: dict[str, PoolCounts] = {pool: PoolCounts() for pool in (*engines, *tools)}
        #: By pool, what each load took.
        self.loads_s: dict[str, list[float]] = {}
        self._devices: dict[str, SharedProcessor] = defaultdict(SharedProcessor)
        self._engines = engines
        self._tools = tools

    def begin(self, time_s: float) -> Iterator[ReplicaAdded]:
        """Start all that no worker loads; the events that tell the core."""
        for pool, fleet in self._engines.items():
            if not fleet.is_on_workers:
                for number in range(fleet.num_replicas):
                    yield self._start(time_s, f"{pool}#{number}", pool, None)
        for pool, max_concurrency in self._tools.items():
            self.replicas[pool] = SimulatedReplica(pool, ModelledEngine(max_concurrency))
            yield ReplicaAdded(time_s, pool, pool, max_concurrency)

    async def load(self, worker_id: str, pool: str) -> ReplicaAdded:
        load_s = self._engines[pool].load_s
        await asyncio.sleep(load_s)
        self.loads_s.setdefault(pool, []).append(load_s)
        return self._start(0.0, f"{pool}/{worker_id}", pool, worker_id)

    async def unload(self, replica_id: str) -> None:
        self._retire(replica_id)

    async def lose(self, replica_id: str) -> None:
        """Take a replica away with all that runs there."""
        await self._retire(replica_id).lose()

    def come_back(self, replica_id: str, pool: str) -> None:
        """Put a new replica in the place of one that was lost."""
        self._put(replica_id, pool)

    def num_begun(self, pool: str) -> int:
        """Return how many replicas a pool has at the begin."""
        fleet = self._engines.get(pool)
        return 1 if fleet is None else 0 if fleet.is_on_workers else fleet.num_replicas

    def num_replicas(self, pool: str) -> int:
        """Return how many replicas of a pool are up."""
        return sum(replica.pool == pool for replica in self.replicas.values())

    def look(self, num_waiting: Mapping[str, int]) -> dict[str, PoolLook]:
        """Return what each pool does now. `num_waiting`: by pool, requests that wait for a replica."""
        found: dict[str, PoolLook] = {}
        for pool in self.counts:
            replicas = [replica for replica in self.replicas.values() if replica.pool == pool]
            usages = [usage for replica in replicas if (usage := replica.kv_usage) is not None]
            found[pool] = PoolLook(
                num_waiting.get(pool, 0),
                sum(replica.num_running for replica in replicas),
                sum(usages) / len(usages) if usages else None,
                len(replicas),
            )
        return found

    def count(self, attempt: Attempt) -> None:
        """Count an attempt that has ended, as a listener of the recorder."""
        if attempt.outcome != "succeeded":
            return
        counts = self.counts[attempt.pool]
        counts.num_calls += 1
        counts.call_s += attempt.call_s
        if attempt.usage is not None:
            counts.num_prompt_tokens += attempt.usage.num_prompt_tokens
            counts.num_cached_tokens += attempt.usage.num_cached_tokens or 0
            counts.num_output_tokens += attempt.usage.num_output_tokens

    def num_preemptions(self, pool: str) -> int:
        """Return how often a running request had to make room, at all replicas of a pool so far."""
        now = sum(one.steps.replica.num_preemptions for one in self.replicas.values() if one.pool == pool and one.steps)
        return self.counts[pool].num_preemptions + now

    def residents(self) -> dict[str, tuple[str, ...]]:
        """Return by worker the pools of the engines loaded there."""
        found: dict[str, tuple[str, ...]] = {}
        for replica_id, replica in self.replicas.items():
            if self._engines.get(replica.pool) is not None and self._engines[replica.pool].is_on_workers:
                worker_id = replica_id.removeprefix(f"{replica.pool}/")
                found[worker_id] = (*found.get(worker_id, ()), replica.pool)
        return found

    def busy_s(self, pool: str) -> float:
        """Return the seconds in which replicas of a pool ran steps, summed over them; where calls bring their own
        seconds, those over the places of a replica."""
        counts, fleet = self.counts[pool], self._engines.get(pool)
        if fleet is None or fleet.engine.seconds is None:
            return counts.call_s / (self._tools[pool] if fleet is None else fleet.engine.max_concurrency)
        now_s = sum(one.steps.replica.busy_s for one in self.replicas.values() if one.pool == pool and one.steps)
        return counts.busy_s + now_s

    def _start(self, time_s: float, replica_id: str, pool: str, worker_id: str | None) -> ReplicaAdded:
        engine = self._put(replica_id, pool)
        return modelled_replica_added(time_s, replica_id, pool, engine, worker_id)

    def _put(self, replica_id: str, pool: str) -> ModelledEngine:
        engine = self._engines[pool].engine
        device = None if engine.shared_device is None else self._devices[engine.shared_device]
        self.replicas[replica_id] = SimulatedReplica(pool, engine, device)
        return engine

    def _retire(self, replica_id: str) -> SimulatedReplica:
        replica = self.replicas.pop(replica_id)
        if replica.steps is not None:
            self.counts[replica.pool].busy_s += replica.steps.replica.busy_s
            self.counts[replica.pool].num_preemptions += replica.steps.replica.num_preemptions
        return replica


def modelled_replica_added(
    time_s: float, replica_id: str, pool: str, engine: ModelledEngine, worker_id: str | None
) -> ReplicaAdded:
    """Return what the core is told of a modelled replica, as `host.replicas` tells it of a real one."""
    num_blocks = 0
    if engine.block_tokens is not None:
        num_blocks = (
            UNKNOWN_CACHE_BLOCKS if engine.max_kv_tokens is None else engine.max_kv_tokens // engine.block_tokens
        )
    return ReplicaAdded(
        time_s,
        replica_id,
        pool,
        engine.max_concurrency,
        engine.max_tokens_in_flight or engine.max_kv_tokens,
        num_blocks,
        worker_id,
        shares_cold_prefixes=engine.shares_cold_prefixes,
        shared_device=engine.shared_device,
    )
