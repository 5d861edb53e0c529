"""The promise of a plan: how long its batch takes, by a simulation of as much of it as a command has time for.

Owns how much is simulated, and the range around it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sundog.batch.follower import PlacementWithFigures, engine_replicas
from sundog.cost.estimate import Estimate
from sundog.cost.load_range import busiest_s, range_around
from sundog.cost.plan_estimate import PlanEstimate, SampledPlan, has_seconds
from sundog.ir.physical import PhysicalPlan
from sundog.optimizer.place_steps import place_candidates
from sundog.optimizer.placement_figures import PlacementFigures
from sundog.sim.coarse import MIN_PLACES, largest_scale, scaled_down
from sundog.sim.plan_workload import longest_tokens, workload_of
from sundog.sim.simulate import Simulated, simulate_load
from sundog.sim.workload import FollowedPlan

MAX_CALLS = 3000
CALL_S = 2.5e-4
"""The processor time of a simulated call."""
MAX_SHARE = 0.005
"""Of the time that is planned, the share that choosing a placement may take beyond a second."""
ALIKE = 0.01
"""By so much simulated times differ that are the same but for rounding."""


def promised_makespan(
    plan: PhysicalPlan,
    sampled: SampledPlan,
    estimate: PlanEstimate,
    *,
    placing: PlacementWithFigures | None = None,
    max_calls: int = MAX_CALLS,
) -> Estimate | None:
    """Return the seconds from the first row's begin to the last one's end; None where nothing is known of some engine's
    time. `placing`: where steps run, of a plan with workers.

    A batch with more than `max_calls` calls is simulated on a smaller scale (`coarse`). Where that does not do, its
    first rows are simulated, and the others follow at the rate that the busiest pool allows.
    """
    if not has_seconds(estimate.nodes, sampled.known):
        return None
    part = _part_of(sampled, estimate, max_calls)
    workload = workload_of(
        plan,
        sampled,
        estimate.nodes,
        part.num_rows,
        loads_s={} if placing is None else placing[0].load_s,
        followed=None if placing is None else FollowedPlan(_in_proportion(plan, part, sampled), placing),
        is_part=part.num_rows < sampled.sample.num_rows,
    )
    if part.scale > 1:
        workload = scaled_down(workload, part.scale, longest_tokens(sampled, estimate.nodes))
    simulated = simulate_load(workload, plan.policy)
    if placing is None:
        load_s = busiest_s(estimate.nodes, sampled.known).expected
        makespan_s = simulated.makespan_s + load_s * part.share_left
    else:
        makespan_s = _whole_s(simulated, len(placing[1].orders), part.share_left)
    return range_around(makespan_s, estimate.nodes, sampled.known)


def chosen_placement(
    plan: PhysicalPlan, sampled: SampledPlan, estimate: PlanEstimate, figures: PlacementFigures
) -> PlacementWithFigures | None:
    """Return where steps run, with `figures`: of the solver's few candidates the one whose simulated run ends first, or
    the first of those within ALIKE of it. Where nothing is known of some engine's time, the first; None without
    workers. The simulations take about a second, or MAX_SHARE of what they plan."""
    candidates = [(figures, one) for one in place_candidates(plan, engine_replicas(plan), figures)]
    if len(candidates) < 2 or not has_seconds(estimate.nodes, sampled.known):
        return candidates[0] if candidates else None
    planned_s = candidates[0][1].makespan_s
    num_calls = max(1.0, MAX_SHARE * planned_s) / CALL_S / len(candidates)
    max_calls = int(min(MAX_CALLS, num_calls))
    makespans_s = []
    for placing in candidates:
        promised = promised_makespan(plan, sampled, estimate, placing=placing, max_calls=max_calls)
        assert promised is not None, "the estimate has seconds"
        makespans_s.append(promised.expected)
    bound_s = min(makespans_s) * (1 + ALIKE)
    return next(one for one, makespan_s in zip(candidates, makespans_s, strict=True) if makespan_s <= bound_s)


def _in_proportion(plan: PhysicalPlan, part: _Part, sampled: SampledPlan) -> PhysicalPlan:
    """Return the plan with a window that is to the part's rows what its own is to all: who follows it compares them."""
    window = round(plan.max_rows_in_flight * part.num_rows / max(1, sampled.sample.num_rows))
    return replace(plan, max_rows_in_flight=max(1, window))


def _whole_s(simulated: Simulated, num_workers: int, share_left: float) -> float:
    """Return the seconds of a batch on workers, of which a part was simulated: all but the loads grows with it."""
    loads_s = sum(map(sum, (pool.loads_s for pool in simulated.pools.values()))) / num_workers
    return loads_s + max(0.0, simulated.makespan_s - loads_s) / (1 - share_left)


@dataclass(frozen=True, slots=True)
class _Part:
    """The part of a batch that is simulated."""

    num_rows: int
    #: How many rows each of them stands for.
    scale: float
    #: Share of the batch for which none of them stands.
    share_left: float


def _part_of(sampled: SampledPlan, estimate: PlanEstimate, max_calls: int) -> _Part:
    num_rows, num_calls = sampled.sample.num_rows, estimate.calls.num_asked.expected
    if num_calls <= max_calls:
        return _Part(num_rows, 1.0, 0.0)
    places = (pool.max_concurrency for pool in sampled.known.pools.values() if pool.max_concurrency > MIN_PLACES)
    scale = largest_scale(places, num_calls / max_calls)
    num_simulated = max(1, int(min(num_rows / scale, num_rows * max_calls / num_calls)))
    return _Part(num_simulated, scale, max(0.0, 1 - num_simulated * scale / num_rows))
