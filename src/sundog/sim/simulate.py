"""One simulation: the real core and its policies, driven in virtual time over modelled machines.

Owns the order of its parts and what comes out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from sundog.batch.follower import Follower
from sundog.host.beside import beside
from sundog.host.driver import Driver
from sundog.host.recorder import Recorder
from sundog.host.virtual_loop import run_virtually
from sundog.sched.core import SchedulerCore
from sundog.sched.events import Event
from sundog.sched.policy import POLICIES
from sundog.sim.autoscaling import RemainingWork, autoscaling
from sundog.sim.failures import ReplicaFailure, fail
from sundog.sim.latency import Latencies
from sundog.sim.machines import Machines, PoolCounts
from sundog.sim.role_flip import flipping
from sundog.sim.rows import SimulatedRows
from sundog.sim.timeline import SimulationCourse
from sundog.sim.workload import Workload


@dataclass(frozen=True, slots=True)
class PoolResult:
    """The work that a pool did. `busy_s`: summed over its replicas."""

    counts: PoolCounts
    busy_s: float
    #: Replicas at the begin; 0 where workers load them.
    num_replicas: int = 0
    #: Seconds of each load on a worker.
    loads_s: tuple[float, ...] = ()
    num_preemptions: int = 0
    #: Seconds for which its replicas were there or starting, summed over them; 0 for a tool.
    replica_s: float = 0.0
    #: How often a replica changed its role.
    num_flips: int = 0


@dataclass(frozen=True, slots=True)
class Simulated:
    """`makespan_s`: from the begin to the last row's end. Calls were `num_asked` for and `num_executed`."""

    makespan_s: float
    num_rows: int
    num_failed_rows: int
    num_asked: int
    num_executed: int
    pools: Mapping[str, PoolResult]
    course: SimulationCourse
    latencies: Latencies

    @property
    def rows_per_s(self) -> float:
        """The throughput from the begin to the last row's end."""
        return self.num_rows / self.makespan_s if self.makespan_s else 0.0


def simulate_load(workload: Workload, policy: str, failures: Sequence[ReplicaFailure] = ()) -> Simulated:
    """Simulate a load under a policy set; ConfigError for an unknown one. Equal input gives an equal result."""
    return run_virtually(_simulate(workload, policy, failures))


def simulate_within(workload: Workload, policy: str, limit_s: float) -> Simulated | None:
    """Simulate a load as `simulate_load` does, but no longer than to that moment; None where it is not over by then."""
    return run_virtually(_simulate_within(workload, policy, limit_s))


async def _simulate_within(workload: Workload, policy: str, limit_s: float) -> Simulated | None:
    with suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            return await _simulate(workload, policy, ())
    return None


def _ignore(event: Event) -> None:
    """A simulation keeps no log."""


@asynccontextmanager
async def _following(workload: Workload, driver: Driver, machines: Machines) -> AsyncIterator[SimulatedRows]:
    """The rows, under the eyes of the plan's follower where there is a plan to follow."""
    followed = workload.followed
    if followed is None:
        yield SimulatedRows(driver, machines, workload.steps)
        return
    assert workload.num_rows is not None, "the rows of a plan that is followed are counted"
    num_rows = max((table.num_rows for table in workload.tables), default=workload.num_rows)
    follower = Follower(followed.plan, followed.placing, num_rows, driver, machines)
    for table in followed.plan.tables if not workload.tables else ():
        follower.drains.begin(table.name, workload.num_rows)
    follower.begin()
    async with follower.reviewing():
        yield SimulatedRows(driver, machines, workload.steps, followed.plan.tables, follower)


def _result(pool: str, counts: PoolCounts, machines: Machines) -> PoolResult:
    num_replicas = machines.num_begun(pool)
    loads_s = tuple(machines.loads_s.get(pool, ()))
    num_preemptions, replica_s = machines.num_preemptions(pool), machines.replica_s(pool)
    num_flips = machines.num_flips[pool]
    return PoolResult(counts, machines.busy_s(pool), num_replicas, loads_s, num_preemptions, replica_s, num_flips)


async def _simulate(workload: Workload, policy: str, failures: Sequence[ReplicaFailure]) -> Simulated:
    machines = Machines(workload.engines, workload.tools)
    work = RemainingWork(workload.engines)
    driver = Driver(SchedulerCore(POLICIES.get(policy)), _ignore, machines, Recorder(machines.count, work.count))
    try:
        timeline = SimulationCourse()
        for replica in machines.begin(0.0):
            driver.tell(replica)
        async with (
            _following(workload, driver, machines) as rows,
            timeline.watching(lambda: machines.look(rows.num_waiting)),
            beside(fail(failures, driver, machines)),
            autoscaling(driver, machines, work, lambda pool: machines.look(rows.num_waiting)[pool]),
            flipping(driver, machines, lambda pool: machines.look(rows.num_waiting)[pool]),
        ):
            await _run(rows, workload)
        return Simulated(
            asyncio.get_running_loop().time(),
            rows.num_rows,
            rows.num_failed_rows,
            rows.num_asked,
            rows.num_executed,
            {pool: _result(pool, counts, machines) for pool, counts in machines.counts.items()},
            timeline,
            rows.latencies,
        )
    finally:
        await driver.close()


async def _run(rows: SimulatedRows, workload: Workload) -> None:
    """Run the rows: a batch and a live load differ in nothing but when rows begin."""
    window = workload.max_rows_in_flight
    if window is None:
        await rows.run_as_they_come(workload.rows())
    elif workload.tables:
        await rows.run_tables(workload.tables, window)
    else:
        await rows.run_within(workload.rows(), window if workload.num_rows is None else min(window, workload.num_rows))
