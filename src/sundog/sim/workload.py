"""The parts of a simulated batch: rows of calls, and the pools that answer them.

Owns these records. Never knows where they come from; `draw` makes them from an estimate, `replay` from a log.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from sundog.batch.follower import PlacementWithFigures
from sundog.engines.modelled.replica import StepSeconds
from sundog.ir.physical import PhysicalPlan
from sundog.sched.facts import NO_FACTS, CallFacts
from sundog.sched.fleets import FlipRole, Scale


@dataclass(frozen=True, slots=True)
class SimulatedCall:
    """One call of one row.

    >>> SimulatedCall("ask", "engine:local", num_prompt_tokens=100, num_output_tokens=20).is_timed
    False
    """

    node: str
    pool: str
    #: Places in the row of the calls that must have ended.
    before: tuple[int, ...] = ()
    #: Equal for calls of which one is executed; None for a call that shares nothing.
    key: Hashable = None
    #: How many nodes of the row's plan stand before it.
    depth: int = 0
    num_prompt_tokens: int = 0
    num_output_tokens: int = 1
    #: Output tokens that the scheduler is told to expect.
    num_expected_output_tokens: int = 0
    #: A key for each full block of the prompt, outermost first.
    prefix_key: tuple[int, ...] = ()
    #: Seconds that it takes by itself; None where the engine's steps decide.
    call_s: float | None = None
    #: Seconds to the first token of a call that brings its own; None where nobody hears of that.
    first_token_s: float | None = None

    @property
    def is_timed(self) -> bool:
        return self.call_s is not None


@dataclass(frozen=True, slots=True)
class SimulatedRow:
    """One row: its calls, each after those that it waits for."""

    calls: tuple[SimulatedCall, ...]
    #: Its number in the order of the rows, by which policies rank; None for its place among the rows as they begin.
    order: int | None = None
    #: The name of its table.
    table: str = ""
    #: Seconds from the begin at which it comes; where a window holds rows back, it begins as soon as there is room.
    arrives_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SimulatedTable:
    """The rows of one table of a batch. `rows` as of a workload."""

    name: str
    rows: Callable[[], Iterator[SimulatedRow]]
    num_rows: int
    #: The tables before it that must have ended; each has a window of rows of its own.
    waits_for: tuple[str, ...] = ()
    #: The table whose rows become its own as they end, in equal shares; None where all are there when it begins.
    stream_of: str | None = None


@dataclass(frozen=True, slots=True)
class StepTraits:
    """The facts that are the same for all calls of a step."""

    facts: CallFacts = NO_FACTS
    #: The row asks again in the same pool as soon as its call has ended.
    has_successor: bool = False
    max_attempts: int = 1


@dataclass(frozen=True, slots=True)
class ModelledEngine:
    """One replica of an engine pool."""

    max_concurrency: int
    #: None where calls bring their own seconds.
    seconds: StepSeconds | None = None
    max_step_tokens: int = 256
    #: Prompt and output tokens that the scheduler lets in; None for any number.
    max_tokens_in_flight: int | None = None
    #: The KV cache; None where it is without end.
    max_kv_tokens: int | None = None
    #: Tokens of a block of the prefix cache; None where there is none.
    block_tokens: int | None = None
    shares_cold_prefixes: bool = True
    shared_device: str | None = None


STEADY_S = 300.0
"""Fewer replicas have been wished for so long before one goes, as in Kubernetes."""


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """The rule by which the replicas of a pool come and go."""

    scale: Scale
    min_replicas: int
    max_replicas: int
    #: Seconds from the order of a replica until it takes calls.
    start_s: float
    #: Calls that one replica is to have.
    num_target_calls: int
    steady_s: float = STEADY_S
    #: When all is to have ended.
    finish_s: float = inf
    #: By step of the pool, how many calls are expected in all.
    num_calls: Mapping[str, float] = field(default_factory=dict)


_DECODE = "/decode"


def decode_pool(pool: str) -> str:
    """Return the pool on which the answers of `pool` are decoded, where its phases are apart."""
    return f"{pool}{_DECODE}"


def whole_pool(pool: str) -> str:
    """Return the pool whose phase, or whose all, a pool is.

    >>> whole_pool(decode_pool("engine:local")), whole_pool("engine:local")
    ('engine:local', 'engine:local')
    """
    return pool.removesuffix(_DECODE)


@dataclass(frozen=True, slots=True)
class PhaseSplit:
    """Prompts are computed on the replicas of a pool, and answers decoded on those of another one."""

    decode_pool: str
    #: Bytes per second of each replica's link; infinite where moving KV blocks takes no time.
    bandwidth_bytes_per_s: float
    kv_bytes_per_token: float
    #: Says when a replica changes its role; None where each keeps it.
    flip: FlipRole | None = None

    def move_s(self, num_tokens: int) -> float:
        """Return the seconds in which the KV cache of so many tokens passes a link.

        >>> PhaseSplit("decode", bandwidth_bytes_per_s=50e9, kv_bytes_per_token=131072).move_s(10_000)
        0.0262144
        """
        return num_tokens * self.kv_bytes_per_token / self.bandwidth_bytes_per_s


@dataclass(frozen=True, slots=True)
class EngineFleet:
    """The replicas of one engine pool. On workers it has none of its own: the core loads them, each in `load_s`."""

    engine: ModelledEngine
    #: At the begin.
    num_replicas: int
    is_on_workers: bool = False
    load_s: float = 0.0
    #: None where they stay.
    autoscaling: Autoscaling | None = None
    #: Where its answers are decoded; None where each replica does both.
    split: PhaseSplit | None = None


@dataclass(frozen=True, slots=True)
class FollowedPlan:
    """A plan with steps on workers, and where they run."""

    plan: PhysicalPlan
    placing: PlacementWithFigures


@dataclass(frozen=True, slots=True)
class Workload:
    """A load to be simulated: a batch, or rows as they come. `rows` gives the rows anew at each call, in the order in
    which they begin."""

    rows: Callable[[], Iterator[SimulatedRow]]
    #: None where only reading them tells; the rows of a plan that is followed are counted.
    num_rows: int | None
    #: None where no window holds rows back: each begins when it comes, as in a live load.
    max_rows_in_flight: int | None
    engines: Mapping[str, EngineFleet]
    #: By pool, how many calls it takes at once.
    tools: Mapping[str, int] = field(default_factory=dict)
    steps: Mapping[str, StepTraits] = field(default_factory=dict)
    #: The plan whose placement is followed, with what it rests on; None where no engine is on workers.
    followed: FollowedPlan | None = None
    #: The tables of a batch that has several; `rows` are then those of all.
    tables: tuple[SimulatedTable, ...] = ()
