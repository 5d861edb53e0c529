"""What a policy may see: requests, replicas and the moment. Read-only for policies, written by the core alone.

Owns the books' records. Never decides. Attribute names are vLLM's where the meaning is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sundog.sched.kv_ledger import KVLedger
from sundog.sched.prefix_index import PrefixIndex


@dataclass(slots=True)
class RequestView:
    """One request from its arrival to its end. `failed_replicas`: where an attempt of it failed. `parked_at`: where
    another request computes its prefix. `need_s`: when the plan needs its result. `has_successor`: its row will ask
    again in this pool as soon as it has ended; `is_successor`: such a call of its row came before. `prefix_order`:
    `prefix_key` in numbers that grow as new prefixes come."""

    request_id: str
    pool: str
    arrival_time: float = 0.0
    row_index: int = 0
    depth: int = 0
    num_prompt_tokens: int = 0
    num_expected_output_tokens: int = 0
    prefix_key: tuple[int, ...] = ()
    max_attempts: int = 1
    num_attempts: int = 0
    replica_id: str | None = None
    failed_replicas: tuple[str, ...] = ()
    parked_at: str | None = None
    need_s: float = 0.0
    prefix_order: tuple[int, ...] = ()
    has_successor: bool = False
    is_successor: bool = False


@dataclass(slots=True)
class ReplicaView:
    """One replica. `running`: KV tokens of what runs, at its predicted peak. `num_parked`: requests that wait until
    another has computed their prefix here; `num_open_rows`: rows whose last call ran here, and whose next is about to
    come; `num_routed`: requests ever sent here.
    `worker_id`: where it is loaded, None for one that stays. `is_draining`: it takes no further request.
    `idle_since_s`: on a worker, since when nothing runs here and nothing waits for it."""

    replica_id: str
    pool: str
    max_concurrency: int = 1
    max_tokens_in_flight: int | None = None
    num_running: int = 0
    num_parked: int = 0
    num_open_rows: int = 0
    num_routed: int = 0
    prefixes: PrefixIndex = field(default_factory=lambda: PrefixIndex(0))
    shares_cold_prefixes: bool = False
    running: KVLedger = field(default_factory=KVLedger)
    worker_id: str | None = None
    is_draining: bool = False
    idle_since_s: float | None = None


@dataclass(slots=True)
class PoolView:
    """One engine that workers load. `load_s`: what a load takes; `call_s`: seconds of one replica for one call, at the
    concurrency reached; both measured once there is something to measure.

    `num_serving`: replicas that take requests, or will when loaded. `num_open_steps`: steps that have sent a call, and
    may send more. `lull_since_s`: since when no call waits. `oldest_arrival_s`: of the call that is next.
    `busy_s`: seconds that replicas had something to do, summed. `num_loads` so far.
    """

    pool: str
    load_s: float
    call_s: float
    num_waiting: int = 0
    num_serving: int = 0
    num_open_steps: int = 0
    lull_since_s: float | None = None
    oldest_arrival_s: float | None = None
    busy_s: float = 0.0
    num_loads: int = 0

    @property
    def waiting_s(self) -> float:
        """Seconds of one replica for the calls that wait."""
        return self.num_waiting * self.call_s


@dataclass(slots=True)
class WorkerView:
    """A place for at most `max_resident` engines at once, out of `pools`.

    `residents`: by pool. `planned`: what its plan needs from now on, soonest first, each engine once. `coming`: the
    engine that is loaded, or will be when `leaving` has gone. `not_before_s`: by pool, after a load that failed.
    `wake_s`: until when the last answer was to keep things.
    """

    worker_id: str
    pools: tuple[str, ...]
    max_resident: int
    residents: dict[str, ReplicaView] = field(default_factory=dict)
    planned: tuple[str, ...] = ()
    coming: str | None = None
    is_loading: bool = False
    load_began_s: float = 0.0
    leaving: ReplicaView | None = None
    is_unloading: bool = False
    num_failures: dict[str, int] = field(default_factory=dict)
    not_before_s: dict[str, float] = field(default_factory=dict)
    wake_s: float = 0.0

    def engines(self) -> tuple[ReplicaView, ...]:
        """All that it holds, the one that leaves too."""
        leaving = () if self.leaving is None else (self.leaving,)
        return (*self.residents.values(), *leaving)


@dataclass(slots=True)
class SchedView:
    """The moment: `time_s` of the event being handled, `num_waiting` in the pool at hand. `quiet_since_s`: since when
    nothing runs, loads or waits for a time, so that no call can come but from what is being committed.
    `num_seen_blocks`: different prefix blocks that came to this pool; `num_cache_blocks`: of its smallest replica."""

    time_s: float = 0.0
    num_waiting: int = 0
    num_seen_blocks: int = 0
    num_cache_blocks: int = 0
    quiet_since_s: float | None = None

    @property
    def is_roomy(self) -> bool:
        """Whether the cache has room for twice the blocks ever seen, so that nothing needed is evicted: answers and
        what prompts do not share pass through it too."""
        return 0 < 2 * self.num_seen_blocks <= self.num_cache_blocks
