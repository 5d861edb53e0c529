"""The promise of a plan: how long its batch takes, by a simulation of as much of it as a command has time for.

Owns how much is simulated, and the range around it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from sundog.batch.follower import PlacementWithFigures
from sundog.cost.estimate import Estimate
from sundog.cost.load_range import busiest_s, range_around
from sundog.cost.plan_estimate import PlanEstimate, SampledPlan, has_seconds
from sundog.ir.physical import PhysicalPlan
from sundog.sim.coarse import MIN_PLACES, largest_scale, scaled_down
from sundog.sim.plan_workload import longest_tokens, workload_of
from sundog.sim.simulate import Simulated, simulate_load, simulate_within
from sundog.sim.workload import FollowedPlan, Workload

MAX_CALLS = 3000


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
    if placing is not None:
        makespan_s = placed_makespan_s(plan, sampled, estimate, placing, max_calls)
    else:
        part = _part_of(plan, sampled, estimate, max_calls)
        simulated = simulate_load(_workload(plan, sampled, estimate, part, None), plan.policy)
        load_s = busiest_s(estimate.nodes, sampled.known).expected
        makespan_s = simulated.makespan_s + load_s * part.share_left
    return range_around(makespan_s, estimate.nodes, sampled.known)


def placed_makespan_s(
    plan: PhysicalPlan,
    sampled: SampledPlan,
    estimate: PlanEstimate,
    placing: PlacementWithFigures,
    max_calls: int,
    limit_s: float = inf,
) -> float:
    """Return the seconds of a batch on workers, simulated as for `promised_makespan`; infinite where it is clear at
    `limit_s` that they are more."""
    part = _part_of(plan, sampled, estimate, max_calls)
    workload = _workload(plan, sampled, estimate, part, placing)
    if limit_s == inf:
        simulated: Simulated | None = simulate_load(workload, plan.policy)
    else:
        simulated = simulate_within(workload, plan.policy, limit_s)
    return inf if simulated is None else _whole_s(simulated, len(placing[1].orders), part.share_left)


def _workload(
    plan: PhysicalPlan,
    sampled: SampledPlan,
    estimate: PlanEstimate,
    part: _Part,
    placing: PlacementWithFigures | None,
) -> Workload:
    workload = workload_of(
        plan,
        sampled,
        estimate.nodes,
        part.num_rows,
        loads_s={} if placing is None else placing[0].load_s,
        followed=None if placing is None else _followed(plan, part, sampled, placing),
        is_part=part.num_rows < sampled.num_rows,
    )
    if part.scale > 1:
        return scaled_down(workload, part.scale, longest_tokens(sampled, estimate.nodes))
    return workload


def _followed(plan: PhysicalPlan, part: _Part, sampled: SampledPlan, placing: PlacementWithFigures) -> FollowedPlan:
    """Return the plan with the part's window. One that holds the whole part is to its rows what the plan's own is to
    all of them."""
    figures, placement = placing
    window = plan.max_rows_in_flight / part.scale
    if window >= part.num_rows:
        window = plan.max_rows_in_flight * part.num_rows / max(1, sampled.num_rows)
    in_part = replace(plan, max_rows_in_flight=max(1, round(window)))
    return FollowedPlan(in_part, (figures.of_share(1 - part.share_left).scaled_down(part.scale), placement))


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


def _part_of(plan: PhysicalPlan, sampled: SampledPlan, estimate: PlanEstimate, max_calls: int) -> _Part:
    num_rows, num_calls = sampled.num_rows, estimate.calls.num_asked.expected
    if num_calls <= max_calls:
        return _Part(num_rows, 1.0, 0.0)
    places = [pool.max_concurrency for pool in sampled.known.pools.values() if pool.max_concurrency > MIN_PLACES]
    most_rows = max((table.sample.num_rows for table in sampled.tables), default=0)
    window = plan.max_rows_in_flight if plan.max_rows_in_flight < most_rows else None
    scale = largest_scale(places, num_calls / max_calls, window)
    num_simulated = max(1, int(min(num_rows / scale, num_rows * max_calls / num_calls)))
    return _Part(num_simulated, scale, max(0.0, 1 - num_simulated * scale / num_rows))
