"""The placement that a run on workers was given, from its log, so that it can be followed again.

Owns the way from the log's events to a placement. What the log does not tell of one, its times, no follower reads.
"""

from __future__ import annotations

from dataclasses import replace

from sundog.batch.follower import PlacementWithFigures, engine_replicas
from sundog.ir.physical import PhysicalPlan, Placement, PlannedStep, WorkerOrder, calls_of
from sundog.optimizer.placement_figures import PlacementFigures
from sundog.sim.replay.logged_run import LoggedPlacement

BASIS = "the log of the run"


def logged_placing(
    logged: LoggedPlacement, plan: PhysicalPlan, figures: PlacementFigures
) -> PlacementWithFigures | None:
    """Return the run's own placement on the workers of `plan`, with `figures` but for what loads were expected to take.
    None where the plan has no workers, or others, or other steps on them, and where the run planned anew on its way:
    its first plan was wrong, and its later ones were for what was left."""
    if logged.num_anew:
        return None
    names = {name for one in engine_replicas(plan) if one.group is not None for name in one.names}
    pools = {call.name: call.pool for call in calls_of(plan.nodes)}
    steps = [step for order in logged.orders.values() for step in order]
    if not names or logged.orders.keys() != names or any(pools.get(step) != pool for step, pool in steps):
        return None
    orders = tuple(
        WorkerOrder(worker, tuple(PlannedStep(step, pool, 0, 0.0, 0.0, is_load=False) for step, pool in order))
        for worker, order in logged.orders.items()
    )
    needs_s, places = tuple(logged.needs_s.items()), tuple(logged.places.items())
    placement = Placement(plan.objective, plan.solver, orders, 0.0, 0.0, 0.0, BASIS, needs_s, places)
    return replace(figures, load_s={**figures.load_s, **logged.load_s}), placement
