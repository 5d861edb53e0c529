"""Engines as other machines: a sample's engine pools with the profiles that a variant names.

Owns which engine takes which profile, and what a reader is told of it. Profiles themselves are measured's and cost's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from sundog.cost.plan_estimate import NodeEstimate, SampledPlan
from sundog.cost.pools import EnginePool
from sundog.measured.named_profiles import named_profile, require_room, with_profile
from sundog.sim.plan_workload import longest_tokens

OTHERS = ""
"""The engine of a name that is given for all that have none of their own."""


def with_profiles(sampled: SampledPlan, names: Mapping[str, str]) -> SampledPlan:
    """Return the sample with the engines as the machines of these profiles. `names`: by engine, `OTHERS` for the rest.
    ConfigError for a name that nobody knows, and for a profile that does not suit its engine."""
    pools = {
        key: with_profile(pool, name, named_profile(name)) if (name := _name_of(pool, names)) is not None else pool
        for key, pool in sampled.known.pools.items()
        if isinstance(pool, EnginePool)
    }
    return replace(sampled, known=replace(sampled.known, pools={**sampled.known.pools, **pools}))


def require_rooms(sampled: SampledPlan, estimates: Sequence[NodeEstimate], names: Mapping[str, str]) -> None:
    """Raise a ConfigError where a prompt with its answer may not fit into the KV cache of a named profile."""
    for key, pool in sampled.known.pools.items():
        if isinstance(pool, EnginePool) and (name := _name_of(pool, names)) is not None:
            served = [one for one in estimates if one.pool == key]
            require_room(pool, name, longest_tokens(sampled, served))


def profile_notes(sampled: SampledPlan, names: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each engine with a named profile: what it is, and what it does not know."""
    for pool in sampled.known.pools.values():
        if not isinstance(pool, EnginePool) or pool.profile is None or (name := _name_of(pool, names)) is None:
            continue
        facts, error = pool.profile.measured_on, pool.profile.held_out
        machine = f"{facts['model']} on {facts['gpu']}" if "model" in facts and "gpu" in facts else "another machine"
        yield (
            f"the engine '{pool.engine}' is simulated as '{name}', {machine}, whose times are foretold to"
            f" {error.mape:.1%} in the mean ({error.p90:.1%} at p90)"
        )
        assumed_zero = facts.get("assumed_zero")
        for coefficient in assumed_zero if isinstance(assumed_zero, Mapping) else ():
            yield f"'{name}': {coefficient} is taken as 0, since its measurements cannot tell it"


def _name_of(pool: EnginePool, names: Mapping[str, str]) -> str | None:
    return names.get(pool.engine, names.get(OTHERS))
