"""The figures that a simulation could not know: what it assumed, in words, and how far its result may be off.

Owns the sentences and the range. The figures that are assumed are cost's and the optimizer's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sundog.cost.estimate import Estimate
from sundog.cost.history import ASSUMED_CALL_S
from sundog.cost.load_range import profile_error, range_around
from sundog.cost.plan_estimate import PlanEstimate, SampledPlan
from sundog.cost.pools import EnginePool
from sundog.deployment import used_engines
from sundog.ir.physical import PhysicalPlan
from sundog.ir.pool_names import engine_of, engine_pool
from sundog.optimizer.placement_figures import ASSUMED_LOAD_S
from sundog.sim.failures import ReplicaFailure
from sundog.sim.simulate import Simulated
from sundog.whatif.profiled import OTHERS
from sundog.whatif.variant import Variant


@dataclass(frozen=True, slots=True)
class Assumed:
    """The figures of one variant that nothing tells."""

    sampled: SampledPlan
    estimate: PlanEstimate
    #: The engine pools of which no load was ever measured.
    loads: frozenset[str]

    def makespan_s(self, simulated: Simulated, plan: PhysicalPlan, *, has_own_calls: bool) -> Estimate:
        """Return the simulated makespan with its range. `has_own_calls`: calls are those of a log or a trace, so that
        only the profiles may be off, and the loads that are assumed."""
        known, seconds = self.sampled.known, simulated.makespan_s
        if has_own_calls:
            error = profile_error(known)
            found = Estimate(seconds * max(0.0, 1 - error), seconds, seconds * (1 + error))
        else:
            found = range_around(seconds, self.estimate.nodes, known)
        counts = {group.name: group.count for group in plan.logical.workers}
        groups = {engine_pool(block.name): block.workers for block in plan.logical.engines}
        load_s = sum(
            sum(simulated.pools[pool].loads_s) / counts[groups[pool] or ""] for pool in self._loaded(simulated)
        )
        less_s, more_s = (
            abs(1 - end / ASSUMED_LOAD_S.expected) * load_s for end in (ASSUMED_LOAD_S.low, ASSUMED_LOAD_S.high)
        )
        return Estimate(max(0.0, found.low - less_s), seconds, found.high + more_s)

    def notes(self, simulated: Simulated) -> Iterator[str]:
        """Yield what was assumed of calls and loads, and what the estimate did not know."""
        assumed = f"{ASSUMED_CALL_S.expected:g} s ({ASSUMED_CALL_S.low:g}-{ASSUMED_CALL_S.high:g} s)"
        for node in self.estimate.nodes:
            if node.seconds is None and isinstance(self.sampled.known.pools[node.pool], EnginePool):
                yield f"{node.node}: a call is assumed to take {assumed}"
        yield from self.load_notes(simulated)
        yield from self.estimate.missing

    def load_notes(self, simulated: Simulated) -> Iterator[str]:
        """Yield what was assumed of loads."""
        assumed = f"{ASSUMED_LOAD_S.expected:g} s ({ASSUMED_LOAD_S.low:g}-{ASSUMED_LOAD_S.high:g} s)"
        for pool in self._loaded(simulated):
            yield f"{engine_of(pool)}: a load is assumed to take {assumed}"

    def _loaded(self, simulated: Simulated) -> list[str]:
        return [pool for pool, result in simulated.pools.items() if pool in self.loads and result.loads_s]


def without_effect(
    variant: Variant, plan: PhysicalPlan, failures: Sequence[ReplicaFailure], simulated: Simulated
) -> Iterator[str]:
    """Yield a sentence for each change of the variant that changes nothing."""
    used = used_engines(plan)
    names, groups = {block.name for block in used}, {block.workers for block in used}
    for engine in sorted({*variant.replicas, *variant.profiles} - names - {OTHERS}):
        yield f"no step uses the engine '{engine}': its replicas and profile change nothing"
    for group in sorted(variant.workers.keys() - groups):
        yield f"no step is on the workers '{group}': their number changes nothing"
    for text, failure in zip(variant.failures, failures, strict=True):
        if failure.at_s > simulated.makespan_s:
            yield f"the failure {text} comes after the end"
