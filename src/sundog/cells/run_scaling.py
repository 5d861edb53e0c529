"""The engines that a run starts itself: what cells tell of their use, and what the driver makes of that.

Owns both sides, and the word between them. How many engines there are is decided in cluster.scale.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sundog.cells.scaling import EngineScaling, EngineStarter, PlannedCalls, WorkLeft, work_estimated
from sundog.cluster.scale import ScaleBounds
from sundog.deployment import opened, pool_of, used_engines
from sundog.execution.coming_replicas import WatchOf
from sundog.ir.logical import EngineBlock
from sundog.ir.physical import PhysicalPlan, calls_of
from sundog.ir.pool_names import engine_pool
from sundog.runtime.figures.pool_work import PoolWork
from sundog.runtime.figures.progress import Progress
from sundog.servers.replica_watch import ReplicaWatch

StarterOf = Callable[[EngineBlock], EngineStarter]
"""Gives what starts the servers of an engine."""


@dataclass(frozen=True, slots=True)
class EngineUse:
    """The use that a cell makes of one engine whose servers come and go."""

    engine: str
    #: By base_url, the calls that run on each server or wait for it.
    num_calls: tuple[tuple[str, int], ...]
    #: Calls that have ended, and the seconds that they held a place of a server, summed.
    num_ended: int
    calls_s: float


@dataclass(frozen=True, slots=True)
class ServersTold:
    """The use that a cell makes of servers that come and go, now; told with each of its beats."""

    uses: tuple[EngineUse, ...]


def servers_told(num_calls: Mapping[str, Mapping[str, int]], work: Mapping[str, PoolWork]) -> ServersTold:
    """Return what a cell tells. `num_calls`: by engine and base_url; `work`: by pool."""
    return ServersTold(tuple(_use(engine, urls, work.get(engine_pool(engine))) for engine, urls in num_calls.items()))


def _use(engine: str, num_calls: Mapping[str, int], work: PoolWork | None) -> EngineUse:
    ended = (0, 0.0) if work is None else (work.num_calls, work.calls_s)
    return EngineUse(engine, tuple(num_calls.items()), *ended)


class _Scaled:
    """One engine that the run starts, and the use that cells make of it."""

    def __init__(self, scaling: EngineScaling, num_slots: int, calls_per_row: int) -> None:
        self.scaling = scaling
        self.num_slots = num_slots
        # Nothing is known of a call's time before some have ended: until then there are as few engines as may be.
        self.planned = PlannedCalls(calls_per_row, 0.0)
        #: By cell; those that are gone keep the calls that have ended.
        self.uses: dict[str, EngineUse] = {}


class RunScaling:
    """The driver's side, for all engines of a run. `watch_of`: for servers that others start. `starter_of`: None where
    the run starts none. `finish_in_s`: counted from the beginning, None for
    as soon as can be."""

    def __init__(
        self, plan: PhysicalPlan, watch_of: WatchOf, starter_of: StarterOf | None, finish_in_s: float | None
    ) -> None:
        self._watch_of = watch_of
        finish_s = 0.0 if finish_in_s is None else finish_in_s
        self._engines = {} if starter_of is None else dict(self._scaled(plan, starter_of, finish_s))

    def watch_of(self, block: EngineBlock) -> ReplicaWatch:
        """Return what hears of the servers of an engine. ConfigError where nothing does."""
        engine = self._engines.get(block.name)
        return self._watch_of(block) if engine is None else engine.scaling

    def hear(self, cell: str, told: ServersTold) -> None:
        """Take up what a cell has told."""
        for use in told.uses:
            if use.engine in self._engines:
                self._engines[use.engine].uses[cell] = use

    def gone(self, cell: str) -> None:
        """Forget what runs for a cell, which is gone."""
        for engine in self._engines.values():
            use = engine.uses.get(cell)
            if use is not None:
                engine.uses[cell] = EngineUse(use.engine, (), use.num_ended, use.calls_s)

    def due(self, time_s: float, progress: Progress, num_rows_open: int) -> None:
        """Have as many engines as what is left needs, each second. `num_rows_open`: rows that are known and have not
        ended; they count where the number of all rows is not known."""
        num_left = num_rows_open if progress.num_rows is None else progress.num_rows - progress.num_ended
        for engine in self._engines.values():
            uses = engine.uses.values()
            counts = Counter[str]()
            for use in uses:
                counts.update(dict(use.num_calls))
            engine.scaling.used({url: counts[url] for url in engine.scaling.urls})
            left = WorkLeft(
                progress.num_ended - progress.num_restored,
                max(0, num_left),
                sum(use.num_ended for use in uses),
                sum(use.calls_s for use in uses),
            )
            engine.scaling.estimated(work_estimated(time_s, left, engine.planned, engine.num_slots))

    def _scaled(self, plan: PhysicalPlan, starter_of: StarterOf, finish_s: float) -> Iterator[tuple[str, _Scaled]]:
        pools = [call.pool for call in calls_of(plan.nodes)]
        for block in used_engines(plan):
            pool = pool_of(block)
            if pool is not None and pool.ray is not None:
                num_slots = opened(block)[1].max_concurrency
                bounds = ScaleBounds(pool.ray.min, pool.ray.max, finish_s, num_slots)
                scaling = EngineScaling(starter_of(block), bounds)
                yield block.name, _Scaled(scaling, num_slots, pools.count(engine_pool(block.name)))
