"""The document that `sundog simulate` shows: variants of a flow, what each takes, and how it comes to that.

Owns the document and its JSON form (docs/cli.md). Text and page are made from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sundog.cost.energy import Energy, total_energy
from sundog.cost.estimate import Estimate


@dataclass(frozen=True, slots=True)
class PoolOutcome:
    """The work of one engine or tool in a simulation."""

    pool: str
    num_replicas: int
    num_calls: int
    #: Share of the time of its replicas in which they worked.
    busy_share: float
    num_prompt_tokens: int
    num_cached_tokens: int
    num_output_tokens: int
    #: Share of its KV cache that running requests held, at most; None where the cache has no bound.
    most_kv_usage: float | None
    num_preemptions: int
    num_loads: int
    #: Seconds of all its loads.
    load_s: float
    #: None where its profile has no watts.
    energy: Energy | None = None
    #: Share of the throughput that its machines' arithmetic allows at best; None where that is unknown.
    optimum_share: float | None = None
    #: Seconds for which replicas of an engine were there or starting, summed over them; None for a tool.
    replica_s: float | None = None
    #: How often a replica changed its role between computing prompts and decoding.
    num_flips: int = 0

    @property
    def hit_rate(self) -> float | None:
        """The share of prompt tokens that came from the prefix cache; None without a prompt."""
        return self.num_cached_tokens / self.num_prompt_tokens if self.num_prompt_tokens else None


@dataclass(frozen=True, slots=True)
class PoolCourse:
    """The course of one pool, in step with the document's `times_s`."""

    pool: str
    num_waiting: Sequence[int]
    num_running: Sequence[int]
    kv_usage: Sequence[float | None]
    num_replicas: Sequence[int]


@dataclass(frozen=True, slots=True)
class LatencyFigures:
    """Seconds that rows or requests took, from when they came."""

    #: The thing that is waited for, as a phrase.
    what: str
    count: int
    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class VariantDocument:
    """One variant."""

    title: str
    policy: str
    num_rows: int
    num_failed_rows: int
    max_rows_in_flight: int
    #: Machines by name: replicas of engines, workers of groups.
    machines: dict[str, int]
    makespan_s: Estimate
    num_asked: int
    num_executed: int
    pools: tuple[PoolOutcome, ...]
    #: Dollars of the tokens, by the engines' prices; None where none has a price.
    token_usd: float | None
    #: Dollars of the workers for the makespan; None where none has a price.
    worker_usd: float | None
    times_s: Sequence[float]
    course: tuple[PoolCourse, ...]
    #: Sentences that say what was assumed.
    assumptions: tuple[str, ...]
    #: The latencies of rows and requests that come over time; empty for a batch.
    latencies: tuple[LatencyFigures, ...] = ()

    @property
    def energy(self) -> Energy | None:
        """Return the energy of all engines whose watts are known; None where none are."""
        parts = [pool.energy for pool in self.pools if pool.energy is not None]
        return total_energy(parts) if parts else None

    @property
    def replica_s(self) -> float:
        """Return the seconds for which replicas of all engines were there or starting, summed over them."""
        return sum(pool.replica_s or 0.0 for pool in self.pools)

    @property
    def usd(self) -> float | None:
        """Return the dollars of tokens and workers; None where neither has a price."""
        parts = [part for part in (self.token_usd, self.worker_usd) if part is not None]
        return sum(parts) if parts else None

    @property
    def calls_per_s(self) -> float:
        return self.num_executed / self.makespan_s.expected if self.makespan_s.expected else 0.0


@dataclass(frozen=True, slots=True)
class SimulationDocument:
    """All variants of one flow; of a search for machines the answer stands last."""

    flow: str
    variants: tuple[VariantDocument, ...]
    #: The seconds that were asked for; None where none were.
    deadline_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the document as JSON types. `makespan_s` of the whole is that of the last variant."""
        variants = [
            asdict(one)
            | {"energy": None if one.energy is None else asdict(one.energy)}
            | {"pools": [asdict(pool) | {"hit_rate": pool.hit_rate} for pool in one.pools]}
            for one in self.variants
        ]
        return {
            "flow": self.flow,
            "deadline_s": self.deadline_s,
            "makespan_s": variants[-1]["makespan_s"],
            "variants": variants,
        }
