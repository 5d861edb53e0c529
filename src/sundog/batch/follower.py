"""This module is a host's side of a placement: it tells the core what workers there are, what is planned for them and
what has drained, and plans anew what is left when the run shows that the estimate was wrong.

Owns these events, and when to plan anew. Never decides what a worker loads; the core does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from statistics import fmean
from typing import TYPE_CHECKING, Protocol

from sundog.batch.drains import Drains
from sundog.deployment import engine_limits, used_engines
from sundog.host.beside import beside
from sundog.ir.physical import PhysicalPlan, Placement, calls_of
from sundog.ir.pool_names import engine_pool
from sundog.optimizer.place_steps import place_steps
from sundog.optimizer.placement_figures import MeasuredCalls, PlacementFigures, PoolReplicas
from sundog.sched.events import StepDrained, StepsOrdered, WorkerAdded, WorkerPlanned

if TYPE_CHECKING:
    from sundog.host.driver import Driver
    from sundog.host.recorder import StepTotals

REVIEW_S = 2.0
MIN_CALLS = 20
MIN_SHARE = 0.05
"""A share of the rows: what the first calls of a step take says little of the rest."""
PlacementWithFigures = tuple[PlacementFigures, Placement]
"""The time that the batch takes, and where it runs."""


class LoadedEngines(Protocol):
    """This class tells what the host knows of engines on workers."""

    @property
    def loads_s(self) -> Mapping[str, Sequence[float]]:
        """Return by pool what each load so far took, in seconds."""
        ...

    def residents(self) -> dict[str, tuple[str, ...]]:
        """Return by worker the pools of the engines loaded there."""
        ...


class Follower:
    """One batch's placement."""

    def __init__(
        self,
        plan: PhysicalPlan,
        placing: PlacementWithFigures | None,
        num_rows: int,
        driver: Driver,
        loaded: LoadedEngines,
    ) -> None:
        """`placing`: None where there are no workers; then nothing is told and nothing reviewed."""
        #: By step, when its results are needed; changes when the plan does.
        self.needs_s: dict[str, float] = {}
        #: Is to be told of each node that a row has passed.
        self.drains = Drains(plan.tables, plan.max_rows_in_flight, self._on_drained)
        self._plan = plan
        self._placing = placing
        self._num_rows = num_rows
        self._driver = driver
        self._loaded = loaded

    def begin(self) -> None:
        """Tell the core of the workers, and of the plan."""
        if self._placing is None:
            return
        figures, placement = self._placing
        for worker in workers(self._plan, figures, self._num_rows, self._driver.now_s()):
            self._driver.tell(worker)
        self._tell(placement)

    @asynccontextmanager
    async def reviewing(self) -> AsyncIterator[None]:
        """Reviews the plan now and then while rows run."""
        if self._placing is None:
            yield
            return

        async def review_often() -> None:
            while True:
                await asyncio.sleep(REVIEW_S)
                await self.review()

        async with beside(review_often()):
            yield

    async def review(self) -> None:
        """Plan anew what is left if what was measured lies outside of the ranges of the figures."""
        assert self._placing is not None, "nothing was placed"
        shares = self.drains.shares_left()
        measured = measured_steps(self._driver.recorder.steps(self._plan.logical.name), shares)
        loads_s = {pool: fmean(took_s) for pool, took_s in self._loaded.loads_s.items()}
        figures = self._placing[0].corrected(measured, loads_s)
        if figures is None:
            return
        replicas, residents = engine_replicas(self._plan), self._loaded.residents()
        placement = await in_thread(self._plan, replicas, figures.left(shares), residents)
        assert placement is not None, "there were workers before"
        self._placing = figures, placement
        self._tell(placement)

    def _tell(self, placement: Placement) -> None:
        self.needs_s |= dict(placement.needs_s)
        steps, places = tuple(step for step, _ in placement.places), tuple(place for _, place in placement.places)
        self._driver.tell(StepsOrdered(self._driver.now_s(), self._plan.logical.name, steps, places))
        shares_left = self.drains.shares_left()
        for order in placement.orders:
            left = [planned for planned in order.steps if shares_left[planned.step]]
            steps, pools = tuple(one.step for one in left), tuple(one.pool for one in left)
            self._driver.tell(WorkerPlanned(self._driver.now_s(), order.worker, self._plan.logical.name, steps, pools))

    def _on_drained(self, step: str, comes_again: bool) -> None:
        if self._placing is not None:
            self._driver.tell(StepDrained(self._driver.now_s(), self._plan.logical.name, step, comes_again))


def measured_steps(steps: Mapping[str, StepTotals], shares_left: Mapping[str, float]) -> dict[str, MeasuredCalls]:
    """Return by step what its attempts tell of its calls. `shares_left`: of the rows, by step. Steps of which too
    little has run are left out."""
    passed = {step: 1.0 - shares_left[step] for step in steps}
    return {
        step: MeasuredCalls(
            least_calls=totals.num_answered,
            most_calls=totals.num_answered / passed[step],
            call_s=totals.attempt_s / totals.num_answered,
            replica_s=totals.replica_s / totals.num_answered,
        )
        for step, totals in steps.items()
        if totals.num_answered >= MIN_CALLS and passed[step] >= MIN_SHARE
    }


async def in_thread(
    plan: PhysicalPlan, replicas: list[PoolReplicas], figures: PlacementFigures, residents: dict[str, tuple[str, ...]]
) -> Placement | None:
    """Run a search in a thread: it takes up to a second, and rows go on meanwhile."""
    return await asyncio.to_thread(place_steps, plan, replicas, figures, residents)


def engine_replicas(plan: PhysicalPlan) -> list[PoolReplicas]:
    """Return where each engine that a step uses can run."""
    groups = {group.name: group for group in plan.logical.workers}
    names = {engine_pool(block.name): block.workers for block in used_engines(plan)}
    return [
        PoolReplicas(pool, None if (name := names[pool]) is None else groups[name], num_replicas)
        for pool, num_replicas, _ in engine_limits(plan)
    ]


def workers(plan: PhysicalPlan, figures: PlacementFigures, num_rows: int, time_s: float) -> Iterator[WorkerAdded]:
    """Yield an event for each worker of a group that an engine of the plan uses."""
    by_group: dict[str, list[PoolReplicas]] = {}
    for one in engine_replicas(plan):
        if one.group is not None:
            by_group.setdefault(one.group.name, []).append(one)
    for users in by_group.values():
        pools = tuple(one.pool for one in users)
        load_s = tuple(figures.load_s[pool] for pool in pools)
        call_s = tuple(_call_s(plan, figures, pool, num_rows) for pool in pools)
        for worker_id in users[0].names:
            group = users[0].group
            assert group is not None, f"{worker_id} is of no group"
            yield WorkerAdded(time_s, worker_id, group.max_resident, pools, load_s, call_s)


def _call_s(plan: PhysicalPlan, figures: PlacementFigures, pool: str, num_rows: int) -> float:
    """Return the seconds of one replica for a call of the pool, by the figures."""
    exec_s = [figures.exec_s[call.name].expected for call in calls_of(plan.nodes) if call.pool == pool]
    return sum(exec_s) / (len(exec_s) * num_rows)
