"""The rows of a run, worked on by cells: an OpenWork for `runtime.run`.

Owns the wiring of the driver's side. What it does is in the hub and its feeds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sundog.cells.hub import CellHub
from sundog.cells.messages import CellStarter, CellTask
from sundog.cells.remote_feed import RemoteFeed
from sundog.cells.run_scaling import RunScaling, StarterOf
from sundog.cells.sharing import RunShares
from sundog.errors import ConfigError
from sundog.execution.coming_replicas import WatchOf, watch_of_source
from sundog.ir.physical import PhysicalPlan
from sundog.ir.values.canonical import canonical_json, describe_value
from sundog.runtime.feed import OnRow
from sundog.runtime.figures.told import ToldFigures
from sundog.runtime.row_work import OpenWork, RowWork, WorkedRun
from sundog.secrets import PATTERN


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """The cells of a run."""

    #: 1 or more.
    num_cells: int
    #: The folder in which the flow's files lie on every machine.
    base_dir: Path
    #: The environment of the driver: cells have those values of it that the flow names.
    environment: Mapping[str, str]
    #: Seconds after which the run should have ended, None for as soon as can be: so many engines does it start.
    finish_in_s: float | None = None


def cluster_work(
    starter: CellStarter,
    options: ClusterOptions,
    watch_of: WatchOf = watch_of_source,
    starter_of: StarterOf | None = None,
) -> OpenWork:
    """Return the means by which cells work on the rows of a run. `watch_of` gives what hears of servers that come and
    go, in the driver's process; `starter_of` gives what starts those of the run, None where it starts none."""
    return partial(_cluster_work, starter=starter, options=options, watch_of=watch_of, starter_of=starter_of)


@asynccontextmanager
async def _cluster_work(
    run: WorkedRun,
    on_row: OnRow | None,
    *,
    starter: CellStarter,
    options: ClusterOptions,
    watch_of: WatchOf,
    starter_of: StarterOf | None,
) -> AsyncIterator[RowWork]:
    """`on_row` hears of nothing: rows end elsewhere."""
    assert on_row is None, "nobody streams the rows of a run on many machines"
    cache = run.store.cache
    if cache is None:
        raise ConfigError(
            "a run on many machines needs a state that all of them see",
            hint="--state s3://bucket/folder, or file:///folder for a folder that all machines share",
        )
    command = run.record.command.hex()
    # What this driver has changed comes before all that its cells do.
    await run.store.write(awaits_log=True)
    task = CellTask(
        cache.url,
        command,
        cache.epoch(command),
        run.record,
        run.plan,
        options.base_dir,
        replace(run.options, outputs={}),
        named_in(run.plan, options.environment),
        run.history,
        options.num_cells,
    )
    shares = RunShares(run.plan, run.operators, run.limits, run.limits.begin_shared(), options.num_cells)
    feeds: dict[str, RemoteFeed] = {}

    def tell_listeners() -> None:
        for feed in feeds.values():
            for changed in feed.listeners:
                changed.set()

    scaling = RunScaling(run.plan, watch_of, starter_of, options.finish_in_s)
    told = ToldFigures(run.plan, run.figures)
    hub = CellHub(task, starter, shares, run, tell_listeners, scaling, told)
    for table in run.plan.tables:
        feeds[table.name] = RemoteFeed(table.name, run.record.run_id, run.store, hub, options.num_cells)
    try:
        await hub.begin()
        yield RowWork(feeds, lambda table, number: feeds[table].expect(number))
    finally:
        await hub.close()
        _recount(run)
        told.settle()


def named_in(plan: PhysicalPlan, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an environment that a plan names as `${env:NAME}`."""
    text = canonical_json(describe_value(plan.written)).decode()
    return {name: environment[name] for name in PATTERN.findall(text) if name in environment}


def _recount(run: WorkedRun) -> None:
    """Count the rows as they are in the store: cells may have told of some that another one ran again."""
    counts, progress = run.store.count_states(run.record.run_id), run.figures.progress
    progress.num_done, progress.num_failed = counts["done"], counts["failed"]
    progress.num_dropped, progress.num_not_run = counts["dropped"], counts["not_run"]
