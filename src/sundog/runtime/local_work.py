"""The rows of a run, worked on in this process: its engines, its scheduler core and its feeds, started and closed.

Owns the order of these steps. What they do is in their rooms.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sundog.batch.follower import Follower, PlacementWithFigures, engine_replicas
from sundog.batch.step_facts import plan_facts
from sundog.cost.history import mean_call_s
from sundog.execution.agents.turn_facts import turn_facts
from sundog.execution.calls.call_key import RunScope
from sundog.execution.calls.exchange import CallExchange
from sundog.execution.coming_replicas import ComingReplicas, WatchOf, watch_of_source
from sundog.execution.executor import RowExecutor
from sundog.execution.plan_calls import CallMeans, dispatcher_of
from sundog.execution.pool_shares import PoolShares
from sundog.execution.pools import RunPools
from sundog.host.beside import beside
from sundog.host.driver import Driver
from sundog.host.event_log import EventLog
from sundog.host.health import Health
from sundog.host.waits import Waits
from sundog.ir.pool_names import label_of
from sundog.measured.loads import keep_loads
from sundog.runtime.feed import Feed, OnRow
from sundog.runtime.figures.progress import Progress
from sundog.runtime.row_work import RowWork, WorkedRun
from sundog.sched.core import SchedulerCore
from sundog.sched.policy import POLICIES, PolicySet
from sundog.servers.run_servers import RunServers
from sundog.servers.servers import Servers

TICK_S = 0.5
Placing = Callable[[float], PlacementWithFigures | None]
"""Gives where steps run for a share of the batch; asked only where there are workers."""


@asynccontextmanager
async def local_work(
    run: WorkedRun,
    on_row: OnRow | None = None,
    *,
    placing: Placing,
    exchange: CallExchange | None = None,
    watch_of: WatchOf = watch_of_source,
) -> AsyncIterator[RowWork]:
    """Start the engines and tools of a plan, and give the feeds of its tables. `on_row` hears of each row once it is
    committed. `exchange`: with other processes that work on the same run. `watch_of` gives what hears of servers that
    come and go."""
    policies, waits = POLICIES.get(run.plan.policy), Waits(label_of)
    placed = await asyncio.to_thread(_placed, run, placing)
    async with (
        _pools(run) as pools,
        _event_log(run, policies.name, waits) as log,
        _driver(run, policies, log, pools, waits) as driver,
        _rare_collections(),
    ):
        run.limits.open(pools.by_pool, run.operators)
        for replica in pools.replicas(driver.now_s()):
            driver.tell(replica)
        follower = Follower(run.plan, placed, _num_left(run.figures.progress, placed), driver, pools)
        follower.begin()
        means = CallMeans(
            run.store,
            driver,
            pools.engines,
            pools.by_pool,
            run.secrets,
            needs_prefixes=policies.needs_prefixes,
            needs_s=follower.needs_s,
            accounts=run.limits.accounts,
            exchange=exchange,
        )
        feeds = _feeds(run, means, follower, on_row)
        health = Health(pools.engines, pools.names(), pools.servers, driver)
        coming = ComingReplicas(pools, driver, waits, watch_of)
        async with follower.reviewing(), health.watching(), coming.watching():
            yield RowWork(feeds, follower.drains.begin, PoolShares(pools, driver), coming)


def _feeds(run: WorkedRun, means: CallMeans, follower: Follower, on_row: OnRow | None) -> dict[str, Feed]:
    """Return the way of the rows: the feed of their table takes them up, its executor runs their steps, and the
    dispatcher answers each call, by an attempt of the driver's where nothing else has the answer."""
    plan, figures = run.plan, run.figures
    scope = RunScope(
        run.record.run_id,
        bool(run.record.is_fresh),
        run.options.repeat_unknown_effects,
        plan_facts(plan, mean_call_s(run.history)),
        run.limits.payers,
    )
    dispatcher = dispatcher_of(plan, scope, run.operators, means, figures)
    turns = turn_facts(plan, run.history)
    return {
        table.name: Feed(
            scope,
            RowExecutor(table, plan.logical.constants, dispatcher, figures.observations, follower.drains, turns),
            run.store,
            means.driver,
            figures.progress,
            max_rows_in_flight=plan.max_rows_in_flight,
            max_errors=run.options.max_errors,
            on_row=on_row,
        )
        for table in plan.tables
    }


def _placed(run: WorkedRun, placing: Placing) -> PlacementWithFigures | None:
    """Return where the steps run and why; None without workers, or rows. A continued run has so much less to do, if
    its rows are known."""
    num_rows, num_ended = run.figures.progress.num_rows, run.figures.progress.num_ended
    if num_ended == num_rows or not any(one.group for one in engine_replicas(run.plan)):
        return None
    return placing(1.0 if num_rows is None else 1 - num_ended / num_rows)


def _num_left(progress: Progress, placed: PlacementWithFigures | None) -> int:
    """Return how many rows have not ended: of the largest table as expected, where queries decide that."""
    if progress.num_rows is not None:
        return progress.num_rows - progress.num_ended
    return 0 if placed is None else max(1, round(placed[0].num_rows))


@asynccontextmanager
async def _pools(run: WorkedRun) -> AsyncIterator[RunPools]:
    servers = RunServers(Servers(run.options.state_dir, run.secrets))
    pools = RunPools(run.plan, run.operators, run.secrets, servers)
    await pools.start()
    try:
        yield pools
    finally:
        await pools.close()
        keep_loads(run.options.state_dir, run.plan, pools.loads_s)


@asynccontextmanager
async def _event_log(run: WorkedRun, policy: str, waits: Waits) -> AsyncIterator[EventLog]:
    """The log, which is flushed at every tick."""
    log = EventLog(run.folder, policy, run.plan.max_rows_in_flight)

    async def tick() -> None:
        while True:
            await asyncio.sleep(TICK_S)
            run.figures.progress.waits = waits.by_pool()
            log.flush()

    try:
        async with beside(tick()):
            yield log
    finally:
        run.limits.close()
        log.close()


@asynccontextmanager
async def _driver(
    run: WorkedRun, policies: PolicySet, log: EventLog, pools: RunPools, waits: Waits
) -> AsyncIterator[Driver]:
    """The driver, which loads nothing more in the end."""
    driver: Driver = Driver(SchedulerCore(policies), log.append, pools, run.figures.recorder, waits)
    try:
        yield driver
    finally:
        await driver.close()


@asynccontextmanager
async def _rare_collections() -> AsyncIterator[None]:
    """Collect cycles seldom while rows run. The rows in flight are many objects and no garbage: looking through them
    at Python's default rate took a quarter of the coordinator's time (benchmarks/overhead.py)."""
    threshold = gc.get_threshold()
    gc.set_threshold(100_000, 50, 100)
    # Nor through the modules, plans and libraries that were there before.
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*threshold)
