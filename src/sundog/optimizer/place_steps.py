"""Steps on workers: the door to a placement.

Owns whether there is one. `placement_of_plan` makes a problem of the plan and has it solved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sundog.ir.physical import PhysicalPlan, Placement
from sundog.optimizer.placement_figures import PlacementFigures, PoolReplicas


def place_steps(
    plan: PhysicalPlan,
    replicas: Sequence[PoolReplicas],
    figures: PlacementFigures,
    residents: Mapping[str, tuple[str, ...]] | None = None,
) -> Placement | None:
    """Return the placement by the plan's objective and solver; None where no step runs on a worker. `replicas`: of
    every engine pool that a step uses. `residents`: the engine pools loaded already, by worker. ConfigError for the
    objective cost without a price."""
    if not any(one.group for one in replicas):
        return None
    from sundog.optimizer.placement_of_plan import place_on_workers  # few plans have workers and need the solvers

    return place_on_workers(plan, replicas, figures, residents or {})


def place_candidates(
    plan: PhysicalPlan, replicas: Sequence[PoolReplicas], figures: PlacementFigures
) -> list[Placement]:
    """Return the placements of which a simulation is to choose, all different; none where no step runs on a worker. One
    where the user has named a solver, or another objective than the makespan."""
    if not any(one.group for one in replicas):
        return []
    from sundog.optimizer.placement_of_plan import candidates_on_workers  # as above

    return candidates_on_workers(plan, replicas, figures)
