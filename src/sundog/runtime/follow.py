"""The run's side of a placement: tells the core what workers there are, what is planned for them, and what has drained.

Owns these events. Never decides what a worker loads; the core does.
"""

from __future__ import annotations

from collections.abc import Iterator

from sundog.ir.physical import PhysicalPlan, Placement, calls_of
from sundog.optimizer.placing import DEFAULT_CALL_S, Figures, Places
from sundog.runtime.pools import engine_limits, engine_pool, used_engines
from sundog.sched.events import WorkerAdded, WorkerPlanned


def engine_places(plan: PhysicalPlan) -> list[Places]:
    """Where each engine that a step uses can run."""
    groups = {group.name: group for group in plan.logical.workers}
    names = {engine_pool(block.name): block.workers for block in used_engines(plan)}
    return [
        Places(pool, None if (name := names[pool]) is None else groups[name], num_replicas)
        for pool, num_replicas, _ in engine_limits(plan)
    ]


def workers(plan: PhysicalPlan, figures: Figures, num_rows: int, time_s: float) -> Iterator[WorkerAdded]:
    """An event for each worker of a group that an engine of the plan uses."""
    by_group: dict[str, list[Places]] = {}
    for place in engine_places(plan):
        if place.group is not None:
            by_group.setdefault(place.group.name, []).append(place)
    for users in by_group.values():
        pools = tuple(place.pool for place in users)
        load_s = tuple(figures.load_s[pool] for pool in pools)
        call_s = tuple(_call_s(plan, figures, pool, num_rows) for pool in pools)
        for worker_id in users[0].names:
            group = users[0].group
            assert group is not None, f"{worker_id} is of no group"
            yield WorkerAdded(time_s, worker_id, group.max_resident, pools, load_s, call_s)


def orders(placement: Placement, time_s: float) -> Iterator[WorkerPlanned]:
    """An event for each worker: what it shall run from now on."""
    for order in placement.orders:
        steps = tuple(planned.step for planned in order.steps)
        yield WorkerPlanned(time_s, order.worker, steps, tuple(planned.pool for planned in order.steps))


def _call_s(plan: PhysicalPlan, figures: Figures, pool: str, num_rows: int) -> float:
    """Seconds of one replica for a call of the pool, by the figures."""
    exec_s = [figures.exec_s[call.name].expected for call in calls_of(plan.nodes) if call.pool == pool]
    return sum(exec_s) / (len(exec_s) * num_rows) if num_rows else DEFAULT_CALL_S
