"""The facts of a replica that the core is told: its limits, and what its engine can do.

Owns the translation of an engine's options and capabilities. Never opens an engine: the owner of the driver does.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from sundog.engines.base import Engine, EngineOptions
from sundog.host.prefix_key import PREFIX_BLOCK_TOKENS
from sundog.sched.events import ReplicaAdded

UNKNOWN_CACHE_BLOCKS = 65_536


def replica_added(
    time_s: float, replica_id: str, pool: str, options: EngineOptions, engine: Engine, worker_id: str | None = None
) -> ReplicaAdded:
    """Return the event for an engine that has started. `worker_id`: of the worker that has loaded it."""
    can = engine.capabilities()
    num_blocks = (can.max_kv_tokens or UNKNOWN_CACHE_BLOCKS * PREFIX_BLOCK_TOKENS) // PREFIX_BLOCK_TOKENS
    return ReplicaAdded(
        time_s,
        replica_id,
        pool,
        options.max_concurrency,
        options.max_tokens_in_flight or can.max_kv_tokens,
        num_blocks if can.has_prefix_cache else 0,
        worker_id,
        shares_cold_prefixes=can.shares_cold_prefixes,
        shared_device=options.shared_device,
    )


def shared_replica(whole: ReplicaAdded, share: int) -> ReplicaAdded:
    """Return the event for a replica of which this process may use `share` of its places: so large a part of its memory
    is its own too."""
    part = share / whole.max_concurrency
    tokens = whole.max_tokens_in_flight
    return replace(
        whole,
        max_concurrency=share,
        max_tokens_in_flight=None if tokens is None else ceil(tokens * part),
        num_prefix_blocks=ceil(whole.num_prefix_blocks * part),
    )
