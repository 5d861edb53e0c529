"""The forms a policy can have, and the set that names one choice per decision.

Owns signatures and the registry. Never holds state: a policy is a pure function of views.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf

from sundog.registry import Registry
from sundog.sched.policies.retention import least_recently_used, nothing_is_retained
from sundog.sched.policies.speculation import full_length
from sundog.sched.views import (
    BlockView,
    DeviceView,
    EngineStepView,
    PoolView,
    ReplicaView,
    RequestView,
    SchedView,
    WorkerView,
    WorkflowView,
)


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request may start on this replica now."""


@dataclass(frozen=True, slots=True)
class Deferred:
    """The request may not start now."""

    #: The request whose prefill (or end) is worth waiting for; None waits for room.
    until: str | None = None
    #: It waits aside, where it holds back nobody, until a replica admits it; at that time it is asked for again in any
    #: case, never where it is infinite. None: it waits in its place, and holds back those behind it.
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class Keep:
    """The worker's engines stay."""

    #: The time at which to ask again even if nothing happens.
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class Bring:
    """Load an engine, in free room or in place of a resident one."""

    #: The pool of the engine to load.
    pool: str
    #: The pool of the resident that goes, which finishes what it runs first; None for free room.
    instead_of: str | None = None


Rank = Callable[[RequestView, SchedView], tuple[float, ...]]
"""Smaller runs first; of those that run, the largest is preempted first."""
Admit = Callable[[RequestView, ReplicaView, SchedView], Admitted | Deferred]
ReplicaFilter = Callable[[RequestView, ReplicaView, SchedView], bool]
"""False rules the replica out for this request."""
Score = Callable[[RequestView, ReplicaView, SchedView], float]
"""In [0, 1]; 1 is best."""
Reschedule = Callable[[RequestView, ReplicaView, ReplicaView, SchedView], bool]
"""True moves a request that waits at the first replica, and counts no more there, to the second, which has room and for
which nothing waits."""
Retry = Callable[[RequestView, float | None, SchedView], float]
"""Seconds until the next attempt, given the server's `retry_after_s`."""
Residency = Callable[[WorkerView, Mapping[str, PoolView], SchedView], Keep | Bring]
"""Asked of a worker that neither loads nor lets go; of the pools, those that workers load."""
TimeSlice = Callable[[DeviceView, SchedView], str]
"""The pool whose requests may start, of those that share a device."""
Retain = Callable[[WorkflowView, ReplicaView, SchedView], float]
"""Seconds to keep a workflow's KV blocks from now on; asked when a call has ended and a tool or another step begins."""
EvictRank = Callable[[BlockView, SchedView], tuple[float, ...]]
"""Smaller is evicted first. A wish, never a bar: where room is needed, every block that nobody uses may go."""
DraftLength = Callable[[EngineStepView, SchedView], int]
"""Draft tokens for each request of the step, from 0 to `max_draft_tokens`."""


@dataclass(frozen=True, slots=True)
class PolicySet:
    """One choice for each decision."""

    name: str
    rank: Rank
    #: All must admit; the first deferral counts.
    admit: tuple[Admit, ...]
    filters: tuple[ReplicaFilter, ...]
    #: With weights.
    scores: tuple[tuple[Score, float], ...]
    retry: Retry
    residency: Residency
    #: Requests go to the queue of a replica as they come, and wait there; else they wait for all until one has room.
    dispatches_at_once: bool = False
    #: None moves what the filters would send elsewhere now.
    reschedule: Reschedule | None = None
    #: Hosts compute `prefix_key` only for a set that reads it.
    needs_prefixes: bool = False
    #: Hosts keep the book of workflows only for a set that reads it.
    needs_workflows: bool = False
    #: Ranks change with time, so that requests that wait at a replica are ranked again too.
    ranks_with_time: bool = False
    #: Seconds after which a workflow of which nothing waits or runs is forgotten. Where they are finite, one whose call
    #: was broken off is not forgotten at once: its program may go on.
    max_idle_s: float = inf
    #: Fields of CallFacts without which it orders requests as they came.
    reads: tuple[str, ...] = ()
    #: None lets all engines of a device start requests.
    time_slice: TimeSlice | None = None
    #: Taken inside an engine, as the two below; the defaults are what vLLM does.
    retain: Retain = nothing_is_retained
    evict_rank: EvictRank = least_recently_used
    draft: DraftLength = full_length


POLICIES: Registry[PolicySet] = Registry("sundog.policies", "policy set")
