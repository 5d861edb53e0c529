"""Failures that a simulation is to show: a replica that is lost at a moment, for good or for a while.

Owns how they are written, and when they happen. What follows from them is the core's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sundog.errors import ConfigError, EngineUnavailable, suggest
from sundog.host.driver import Driver
from sundog.ir.pool_names import label_of
from sundog.sched.events import ReplicaDown, ReplicaDraining, ReplicaUp
from sundog.sim.machines import Machines
from sundog.sim.workload import EngineFleet, whole_pool

_SECONDS = r"\d+(?:\.\d*)?|\.\d+"
_WRITTEN = re.compile(rf"(?P<engine>[^#@+]+)#(?P<number>\d+)@(?P<at>{_SECONDS})s(?:\+(?P<down>{_SECONDS})s)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ReplicaFailure:
    """A replica is lost `at_s` seconds after the begin, with all that runs there."""

    pool: str
    #: The number of the replica in its pool, from 0.
    number: int
    at_s: float
    #: Seconds until another one is there in its place; None for never.
    down_s: float | None = None

    @property
    def replica_id(self) -> str:
        return f"{self.pool}#{self.number}"


def read_failure(text: str, fleets: Mapping[str, EngineFleet], pool_of: Mapping[str, str]) -> ReplicaFailure:
    """Return what `engine#number@SECONDSs` or `engine#number@SECONDSs+SECONDSs` says. `pool_of`: by engine. ConfigError
    for another form, and for a replica that is not there."""
    where = f"--fail {text}"
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise ConfigError("not of the form ENGINE#NUMBER@SECONDSs", where=where, hint="as in --fail local#1@120s")
    engine, number = match["engine"], int(match["number"])
    if engine not in pool_of:
        raise ConfigError(f"the flow has no engine '{engine}'", where=where, hint=suggest(engine, pool_of))
    fleet = fleets.get(pool_of[engine])
    if fleet is None:
        used = sorted(name for name, pool in pool_of.items() if pool in fleets)
        raise ConfigError(f"no step uses the engine '{engine}'", where=where, hint=f"used are: {', '.join(used)}")
    if fleet.is_on_workers:
        raise ConfigError(
            f"the engine '{engine}' is on workers and has no replicas of its own",
            where=where,
            hint="only replicas that stay can be lost: those of engines without workers",
        )
    if number >= fleet.num_replicas:
        stay = fleet.autoscaling is None and fleet.split is None and engine == label_of(whole_pool(pool_of[engine]))
        more = f"; --replicas {engine}=N simulates more" if stay else ""
        raise ConfigError(
            f"the engine '{engine}' has no replica {number}",
            where=where,
            hint=f"it has {fleet.num_replicas} at the begin, counted from 0{more}",
        )
    down_s = None if match["down"] is None else float(match["down"])
    return ReplicaFailure(pool_of[engine], number, float(match["at"]), down_s)


def check_apart(failures: Sequence[ReplicaFailure]) -> None:
    """Raise a ConfigError where a replica is lost while it is away."""
    of_replica: dict[str, ReplicaFailure] = {}
    for failure in sorted(failures, key=lambda one: one.at_s):
        before = of_replica.get(failure.replica_id)
        if before is not None and (before.down_s is None or failure.at_s < before.at_s + before.down_s):
            until = "for good" if before.down_s is None else f"until {before.at_s + before.down_s:g} s"
            raise ConfigError(
                f"the replica {label_of(failure.pool)}#{failure.number} is lost at {failure.at_s:g} s,"
                f" and it is away since {before.at_s:g} s {until}",
                where="--fail",
                hint="a line of --compare adds to the failures of the command: give each variant its own there",
            )
        of_replica[failure.replica_id] = failure


async def fail(failures: Sequence[ReplicaFailure], driver: Driver, machines: Machines) -> None:
    """Let each failure happen at its time."""
    await asyncio.gather(*(_fail(failure, driver, machines) for failure in failures))


async def _fail(failure: ReplicaFailure, driver: Driver, machines: Machines) -> None:
    await asyncio.sleep(failure.at_s)
    if failure.replica_id not in machines.replicas or failure.replica_id in machines.leaving:
        return
    if failure.down_s is None and machines.is_autoscaled(failure.pool):
        # Its pool is not lost with it: the autoscaler orders another one.
        machines.leave(failure.replica_id)
        driver.tell(ReplicaDown(driver.now_s(), failure.replica_id))
        driver.tell(ReplicaDraining(driver.now_s(), failure.replica_id))
        await machines.lose(failure.replica_id)
        return
    if failure.down_s is None:
        is_last = machines.num_replicas(failure.pool) == 1
        why = EngineUnavailable(f"the replica {failure.replica_id} is lost, as the simulation was told")
        driver.lose(failure.replica_id, failure.pool, why, is_last=is_last)
        await machines.lose(failure.replica_id)
        return
    driver.tell(ReplicaDown(driver.now_s(), failure.replica_id))
    await machines.lose(failure.replica_id)
    await asyncio.sleep(failure.down_s)
    machines.come_back(failure.replica_id, failure.pool)
    driver.tell(ReplicaUp(driver.now_s(), failure.replica_id))
