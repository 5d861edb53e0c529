"""A batch on a smaller scale: a part of its rows on machines with that part of their places.

Owns this scaling. As many waves of calls follow each other as in the whole batch, and each takes as long, so that the
makespan is about the same for a part of the work; loads are what they are.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from math import ceil, gcd

from sundog.sim.workload import EngineFleet, ModelledEngine, Workload

MIN_PLACES = 4
"""Fewer places say little of how calls overlap."""
ROUNDING = 1e-9


def largest_scale(places: Collection[int], wanted: float, window: int | None = None) -> float:
    """Return by how much a batch may be scaled down: at least 1, and as little above `wanted` as leaves whole places.
    `places`: of each replica and tool that has more than MIN_PLACES; one with fewer is scaled with the others, but for
    rounding. `window`: of rows in flight, where the batch has more.

    >>> largest_scale([32, 8], 10.0)
    2.0

    A window of two waves stays one of two waves, 22 rows over 11 places:

    >>> round(largest_scale([32], 2.8, 64), 2)
    2.91
    """
    if not places or wanted <= 1:
        return max(1.0, wanted)
    least = min(places)
    bound = min(wanted, least / MIN_PLACES) * (1 - ROUNDING)
    units = (gcd(*places, window or 0), gcd(*places), least)
    # As many as `places`, and the window, have units, so that what is left of each is whole.
    scales = (unit / max(int(unit / wanted), ceil(unit * MIN_PLACES / least)) for unit in units)
    return next(scale for scale in scales if scale >= bound)


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
