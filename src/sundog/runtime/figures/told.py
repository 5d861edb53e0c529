"""The figures of a run that other processes work on: what each tells of itself, and what the run's own are made of.

Owns both sides, and the word between them. A sum of what all have told is what one process would have counted; where
there is none (a time in which anything ran), this says how the run's is made.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from math import prod

from sundog.cost.history import History
from sundog.host.recorder import StepTotals
from sundog.ir.physical import PhysicalPlan, calls_of
from sundog.runtime.figures.pool_work import PoolWork
from sundog.runtime.figures.run_figures import RunFigures

TELL_EVERY_S = 5.0
"""A process tells its figures so often, and when it ends. One that dies has told all but those of so long."""


@dataclass(frozen=True, slots=True)
class FiguresTold:
    """The figures of one process. All of its times are on its driver's clock."""

    told_s: float
    #: These are what has been seen since its last word; what follows is of all its time.
    observations: History
    num_reused: Mapping[str, int]
    #: By pool.
    work: Mapping[str, PoolWork]
    #: By step.
    steps: Mapping[str, StepTotals]


def tell_figures(figures: RunFigures, flow: str, now_s: float) -> FiguresTold:
    """Return what a process has to tell, which is its own no more; its observations begin anew."""
    return FiguresTold(
        now_s,
        figures.observations.take(),
        dict(figures.num_reused),
        {pool: copy(work) for pool, work in figures.work.items()},
        figures.recorder.steps(flow),
    )


class _Process:
    """A process that has told its figures. `place`: at any time one process works at a place."""

    def __init__(self, place: int) -> None:
        self.place = place
        #: The seconds between both clocks. What it tells comes later than it was told, so the least is the nearest.
        self.behind_s = float("inf")
        self.told: FiguresTold | None = None


class ToldFigures:
    """The figures of a run, as its processes have told them."""

    def __init__(self, plan: PhysicalPlan, figures: RunFigures) -> None:
        self._figures = figures
        self._pools = {call.name: call.pool for call in calls_of(plan.nodes)}
        self._processes: dict[str, _Process] = {}

    def hear(self, name: str, place: int, told: FiguresTold, now_s: float) -> None:
        """Take up what a process has told, once; `now_s` on the clock of whoever hears it."""
        self._figures.observations.add(told.observations)
        process = self._processes.setdefault(name, _Process(place))
        process.behind_s = min(process.behind_s, now_s - told.told_s)
        process.told = told

    def settle(self) -> None:
        """Make the figures of the run from what was told last."""
        processes = self._processes.values()
        told = [(one.place, one.behind_s, one.told) for one in processes if one.told is not None]
        reused = Counter[str]()
        work: defaultdict[str, PoolWork] = defaultdict(PoolWork)
        for _, behind_s, one in told:
            reused.update(one.num_reused)
            for pool, part in one.work.items():
                work[pool].add(part, behind_s)
        self._figures.num_reused = dict(reused)
        self._figures.work = dict(work)
        self._figures.told_seconds = self._seconds([(place, one.steps) for place, _, one in told])

    def _seconds(self, told: Iterable[tuple[int, Mapping[str, StepTotals]]]) -> dict[str, float]:
        """Return by step its share of the time in which its pool had something to do anywhere."""
        share_s: defaultdict[str, float] = defaultdict(float)
        of_pool_s: defaultdict[str, float] = defaultdict(float)
        busy_s: defaultdict[str, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
        for place, steps in told:
            for step in steps.keys() & self._pools.keys():
                pool, totals = self._pools[step], steps[step]
                share_s[step] += totals.replica_s
                of_pool_s[pool] += totals.replica_s
                busy_s[pool][place] += totals.pool_s
        pool_s = {
            pool: busy_together_s(of_place.values(), self._figures.work[pool].wall_s)
            for pool, of_place in busy_s.items()
        }
        return {
            step: pool_s[pool] * part_s / of_pool_s[pool]
            for step, part_s in share_s.items()
            if of_pool_s[pool := self._pools[step]]
        }


def busy_together_s(busy_s: Iterable[float], wall_s: float) -> float:
    """Return the seconds of `wall_s` in which any of several was busy, each for so many seconds of it: as where the
    moments in which one is idle have nothing to do with those of another.

    >>> busy_together_s([10.0, 10.0], 10.0), busy_together_s([5.0, 5.0], 10.0)
    (10.0, 7.5)
    """
    each_s = list(busy_s)
    wall_s = max([wall_s, *each_s])
    return wall_s * (1 - prod(1 - one / wall_s for one in each_s)) if wall_s else 0.0
