"""The choice of a placement: of a few, the one whose simulated run ends first.

Owns the choice and its effort: what cannot end first is simulated in part, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from sundog.batch.follower import PlacementWithFigures, engine_replicas
from sundog.cost.plan_estimate import PlanEstimate, SampledPlan, has_seconds
from sundog.ir.physical import PhysicalPlan
from sundog.optimizer.place_steps import place_candidates
from sundog.optimizer.placement_figures import PlacementFigures
from sundog.sim.promise import MAX_CALLS, placed_makespan_s

CALL_S = 2.5e-4
"""The processor time of a simulated call."""
MAX_SHARE = 0.005
"""The simulations may take a second, and beyond it this share of the time that is planned."""
MIN_EFFORT_S, MAX_EFFORT_S = 1.0, 2.0
"""Processor time that all of them may take however little is planned, and however much."""
ALIKE = 0.01
"""By so much simulated times differ that are the same but for rounding."""
MAX_GAIN = 1.5
"""A run takes no less than its plan promises over this: of 130 published and random graphs none took 31 % less."""


def chosen_placement(
    plan: PhysicalPlan, sampled: SampledPlan, estimate: PlanEstimate, figures: PlacementFigures
) -> PlacementWithFigures | None:
    """Return where steps run, with `figures`: of the solver's few candidates the one whose simulated run ends first, or
    the first of those within ALIKE of it. Where nothing is known of some engine's time, the first; None without
    workers. The simulations take about a second, or MAX_SHARE of what they plan up to MAX_EFFORT_S."""
    candidates = [(figures, one) for one in place_candidates(plan, engine_replicas(plan), figures)]
    if len(candidates) < 2 or not has_seconds(estimate.nodes, sampled.known):
        return candidates[0] if candidates else None
    effort_s = min(max(MIN_EFFORT_S, MAX_SHARE * candidates[0][1].makespan_s), MAX_EFFORT_S)
    max_calls = int(min(MAX_CALLS, effort_s / CALL_S / len(candidates)))
    makespans_s = [inf] * len(candidates)
    for number in _most_promising_first(candidates):
        placing, limit_s = candidates[number], min(makespans_s) * (1 + ALIKE)
        if placing[1].makespan_s <= limit_s * MAX_GAIN:
            makespans_s[number] = placed_makespan_s(plan, sampled, estimate, placing, max_calls, limit_s)
    bound_s = min(makespans_s) * (1 + ALIKE)
    return next(one for one, makespan_s in zip(candidates, makespans_s, strict=True) if makespan_s <= bound_s)


def _most_promising_first(candidates: Sequence[PlacementWithFigures]) -> list[int]:
    """Return the numbers of the candidates, so that what is simulated later is cut off early."""
    return sorted(range(len(candidates)), key=lambda number: candidates[number][1].makespan_s)
