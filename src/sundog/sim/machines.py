"""The machines of a simulation: which replicas there are, loads on workers, and failures.

Owns what is up at each moment, and what it did. Never decides where a call runs; the core does.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sundog.engines.modelled.steps import SharedProcessor
from sundog.host.attempt import Attempt
from sundog.host.replicas import UNKNOWN_CACHE_BLOCKS
from sundog.sched.events import ReplicaAdded
from sundog.sim.replica import SimulatedReplica, replica_lost
from sundog.sim.timeline import PoolLook
from sundog.sim.workload import EngineFleet, ModelledEngine, PhaseSplit


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
    #: Seconds for which replicas that are gone were there, or starting.
    replica_s: float = 0.0


class Machines:
    """All replicas by id; a tool's pool is one replica. It is the driver's `Loader`."""

    def __init__(self, engines: Mapping[str, EngineFleet], tools: Mapping[str, int]) -> None:
        self.replicas: dict[str, SimulatedReplica] = {}
        self.counts: dict[str, PoolCounts] = {pool: PoolCounts() for pool in (*engines, *tools)}
        #: By pool, what each load took.
        self.loads_s: dict[str, list[float]] = {}
        #: Replicas that take no further call, and go.
        self.leaving: set[str] = set()
        #: By pool whose phases are apart, how many replicas have changed their roles.
        self.num_flips: Counter[str] = Counter()
        self._on_gone: dict[str, Callable[[], None]] = {}
        #: By replica that is there or starting, its pool and since when.
        self._since: dict[str, tuple[str, float]] = {}
        self._num_rented: Counter[str] = Counter()
        self._devices: dict[str, SharedProcessor] = defaultdict(SharedProcessor)
        self._engines = engines
        self._tools = tools

    def begin(self, time_s: float) -> Iterator[ReplicaAdded]:
        """Start all that no worker loads; the events that tell the core."""
        for pool, fleet in self._engines.items():
            if not fleet.is_on_workers:
                for _ in range(fleet.num_replicas):
                    yield self.start(time_s, self.rent(pool), pool)
        for pool, max_concurrency in self._tools.items():
            self.replicas[pool] = SimulatedReplica(pool, ModelledEngine(max_concurrency))
            yield ReplicaAdded(time_s, pool, pool, max_concurrency)

    def rent(self, pool: str) -> str:
        """Return the name of one more replica, whose time counts from now on."""
        replica_id = f"{pool}#{self._num_rented[pool]}"
        self._num_rented[pool] += 1
        self._since[replica_id] = pool, asyncio.get_running_loop().time()
        return replica_id

    def start(self, time_s: float, replica_id: str, pool: str, worker_id: str | None = None) -> ReplicaAdded:
        """Start a replica; the event that tells the core."""
        engine = self._put(replica_id, pool)
        return modelled_replica_added(time_s, replica_id, pool, engine, worker_id)

    def give_back(self, replica_id: str) -> None:
        """End the time of a replica."""
        pool, since_s = self._since.pop(replica_id)
        self.counts[pool].replica_s += asyncio.get_running_loop().time() - since_s

    async def load(self, worker_id: str, pool: str) -> ReplicaAdded:
        load_s = self._engines[pool].load_s
        await asyncio.sleep(load_s)
        self.loads_s.setdefault(pool, []).append(load_s)
        return self.start(0.0, f"{pool}/{worker_id}", pool, worker_id)

    async def unload(self, replica_id: str) -> None:
        self.leaving.discard(replica_id)
        on_gone = self._on_gone.pop(replica_id, None)
        if replica_id in self.replicas:  # or it was lost while it drained
            self._retire(replica_id)
        if on_gone is not None:
            on_gone()

    def leave(self, replica_id: str, on_gone: Callable[[], None] | None = None) -> None:
        """Note that a replica takes no further call; `on_gone`: called when nothing runs there any more."""
        self.leaving.add(replica_id)
        if on_gone is not None:
            self._on_gone[replica_id] = on_gone

    def staying(self, pool: str) -> list[str]:
        """Return the replicas of a pool that take calls, the oldest first."""
        return [name for name, one in self.replicas.items() if one.pool == pool and name not in self.leaving]

    def replica(self, replica_id: str) -> SimulatedReplica:
        """Return a replica that is up; EngineUnavailable, retryable, for one that was lost just when it was chosen."""
        found = self.replicas.get(replica_id)
        if found is None:
            raise replica_lost()
        return found

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

    def replica_s(self, pool: str) -> float:
        """Return the seconds for which replicas of a pool were there or starting, summed over them."""
        now_s = asyncio.get_running_loop().time()
        return self.counts[pool].replica_s + sum(now_s - since_s for of, since_s in self._since.values() if of == pool)

    def split_of(self, pool: str) -> PhaseSplit | None:
        """Return where the answers of a pool are decoded; None where each replica does both."""
        fleet = self._engines.get(pool)
        return None if fleet is None else fleet.split

    @property
    def splits(self) -> dict[str, PhaseSplit]:
        """Return the pools whose answers are decoded elsewhere, and where."""
        return {pool: fleet.split for pool, fleet in self._engines.items() if fleet.split is not None}

    def is_autoscaled(self, pool: str) -> bool:
        """Return whether replicas of a pool are rented and given back."""
        fleet = self._engines.get(pool)
        return fleet is not None and fleet.autoscaling is not None

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

    def _put(self, replica_id: str, pool: str) -> ModelledEngine:
        engine = self._engines[pool].engine
        device = None if engine.shared_device is None else self._devices[engine.shared_device]
        self.replicas[replica_id] = SimulatedReplica(pool, engine, device)
        self._since.setdefault(replica_id, (pool, asyncio.get_running_loop().time()))
        return engine

    def _retire(self, replica_id: str) -> SimulatedReplica:
        replica = self.replicas.pop(replica_id)
        if replica.steps is not None:
            self.counts[replica.pool].busy_s += replica.steps.replica.busy_s
            self.counts[replica.pool].num_preemptions += replica.steps.replica.num_preemptions
        self.give_back(replica_id)
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
