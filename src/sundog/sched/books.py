"""The core's record of a pool.

Owns the record; the core and its worker book write it. Never decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sundog.sched.prefix_index import PrefixOrder
from sundog.sched.views import ReplicaView

# Of the prefixes of all rows in flight, and more; at 100 bytes each.
MAX_ORDERED_BLOCKS = 250_000


@dataclass(slots=True)
class Pool:
    """`waiting`: a heap of (rank, sequence, request). `num_free`: slots of the replicas that are not draining.
    `num_parked`: requests that wait for another one's prefill. `num_finished`: requests so far."""

    replicas: list[ReplicaView] = field(default_factory=list)
    waiting: list[tuple[tuple[float, ...], int, str]] = field(default_factory=list)
    num_free: int = 0
    num_parked: int = 0
    num_finished: int = 0
    prefixes: PrefixOrder = field(default_factory=lambda: PrefixOrder(MAX_ORDERED_BLOCKS))
