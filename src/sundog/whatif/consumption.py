"""The energy of a simulated pool, and which part of its machines' optimum it reaches.

Owns the way from a simulation's counts to the arithmetic of cost.
"""

from __future__ import annotations

from sundog.cost.energy import Energy, energy_of
from sundog.cost.optimum import share_of_optimum
from sundog.cost.pools import EnginePool, ToolPool
from sundog.sim.simulate import PoolResult


def energy_of_pool(pool: EnginePool | ToolPool, result: PoolResult) -> Energy | None:
    """Return the energy of an engine's replicas, at work and idle; None where its profile has no watts."""
    if not isinstance(pool, EnginePool) or pool.profile is None or pool.profile.power is None:
        return None
    return energy_of(pool.profile.power, result.busy_s, max(0.0, result.replica_s - result.busy_s))


def optimum_share(pool: EnginePool | ToolPool, result: PoolResult) -> float | None:
    """Return which part of the optimal throughput an engine reaches; None where its machine's arithmetic is unknown."""
    if not isinstance(pool, EnginePool) or pool.profile is None or pool.profile.compute is None:
        return None
    counts = result.counts
    num_computed = counts.num_prompt_tokens - counts.num_cached_tokens + counts.num_output_tokens
    return share_of_optimum(pool.profile.compute, num_computed, result.replica_s) if result.replica_s else None
