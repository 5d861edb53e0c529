"""The energy of a simulated pool, and which part of its machines' optimum it reaches.

Owns the way from a simulation's counts to the arithmetic of cost.
"""

from __future__ import annotations

from itertools import pairwise

from sundog.cost.energy import Energy, energy_of
from sundog.cost.optimum import share_of_optimum
from sundog.cost.pools import EnginePool, ToolPool
from sundog.sim.simulate import Simulated


def energy_of_pool(pool: EnginePool | ToolPool, simulated: Simulated) -> Energy | None:
    """Return the energy of an engine's replicas, at work and idle; None where its profile has no watts."""
    if not isinstance(pool, EnginePool) or pool.profile is None or pool.profile.power is None:
        return None
    busy_s = simulated.pools[pool.name].busy_s
    return energy_of(pool.profile.power, busy_s, max(0.0, _up_s(pool.name, simulated) - busy_s))


def optimum_share(pool: EnginePool | ToolPool, simulated: Simulated) -> float | None:
    """Return which part of the optimal throughput an engine reaches; None where its machine's arithmetic is unknown."""
    if not isinstance(pool, EnginePool) or pool.profile is None or pool.profile.compute is None:
        return None
    counts, up_s = simulated.pools[pool.name].counts, _up_s(pool.name, simulated)
    num_computed = counts.num_prompt_tokens - counts.num_cached_tokens + counts.num_output_tokens
    return share_of_optimum(pool.profile.compute, num_computed, up_s) if up_s else None


def _up_s(pool: str, simulated: Simulated) -> float:
    """Return the seconds that replicas of a pool were up, summed over them."""
    course = simulated.course
    looks = pairwise(zip(course.times_s, course.looks, strict=True))
    return sum((later_s - time_s) * look[pool].num_replicas for (time_s, look), (later_s, _) in looks)
