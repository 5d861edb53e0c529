"""A batch on a smaller scale: a part of its rows on machines with that part of their places.

Owns this scaling. As many waves of calls follow each other as in the whole batch, and each takes as long, so that the
makespan is about the same for a part of the work; loads are what they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sundog.sim.workload import EngineFleet, ModelledEngine, Workload

MIN_PLACES = 4
"""Fewer places say little of how calls overlap."""


def largest_scale(places: Iterable[int], wanted: float) -> float:
    """Return by how much a batch may be scaled down, at most `wanted` and at least 1. `places`: of each replica and
    tool that has more than MIN_PLACES; one with fewer is scaled with the others, but for rounding.

    >>> largest_scale([32, 8], 10.0)
    2.0
    """
    return max(1.0, min([wanted, *(one / MIN_PLACES for one in places)]))


def scaled_down(workload: Workload, scale: float, longest_tokens: int) -> Workload:
    """Return the machines of `workload` for a `scale`-th of its rows, which `workload.rows` gives already. Each call
    stands for `scale` calls, so it makes that much more work in a step. `longest_tokens`: of any prompt and answer."""
    return replace(
        workload,
        max_rows_in_flight=_part(workload.max_rows_in_flight, scale),
        engines={pool: _fleet(fleet, scale, longest_tokens) for pool, fleet in workload.engines.items()},
        tools={pool: max(1, round(places / scale)) for pool, places in workload.tools.items()},
    )


def _fleet(fleet: EngineFleet, scale: float, longest_tokens: int) -> EngineFleet:
    engine = fleet.engine
    seconds = engine.seconds
    scaled = replace(
        engine,
        max_concurrency=max(1, round(engine.max_concurrency / scale)),
        seconds=None if seconds is None else seconds.of_many(scale),
        max_step_tokens=max(1, round(engine.max_step_tokens / scale)),
        max_tokens_in_flight=_part(engine.max_tokens_in_flight, scale),
        max_kv_tokens=_kv_part(engine, scale, longest_tokens),
    )
    return replace(fleet, engine=scaled)


def _part(limit: int | None, scale: float) -> int | None:
    return None if limit is None else max(1, round(limit / scale))


def _kv_part(engine: ModelledEngine, scale: float, longest_tokens: int) -> int | None:
    """Return its part of the KV cache, in which the longest request must still fit."""
    most = engine.max_kv_tokens
    return None if most is None else min(most, max(longest_tokens, round(most / scale)))
