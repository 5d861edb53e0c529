"""Autoscaling of a simulated pool: replicas are ordered, start, and are given back, as a policy wishes.

Owns when the policy is asked, what it is told, and how its wish is carried out. How many there should be is the
policy's (`sched.policies.scaling`); where calls run is the core's. A replica that goes takes no further call and ends
what runs there; of several the youngest goes, one that has not started first. Left out: machines that cannot be had,
start-up times that vary, and limits on how many replicas may be added at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from sundog.host.attempt import Attempt
from sundog.host.beside import beside
from sundog.host.driver import Driver
from sundog.sched.events import ReplicaDraining
from sundog.sched.fleets import FleetView
from sundog.sched.policies.scaling import settled
from sundog.sim.machines import Machines
from sundog.sim.timeline import PoolLook
from sundog.sim.workload import EngineFleet

PERIOD_S = 15.0
"""Between two questions, as in Kubernetes."""


class RemainingWork:
    """The work that autoscaled pools have left, from what their calls took so far. It knows no more than a run would:
    of each step, how many calls are expected; a step of which no call has ended is taken to be as the others of its
    pool."""

    def __init__(self, fleets: Mapping[str, EngineFleet]) -> None:
        self.rules = {pool: fleet.autoscaling for pool, fleet in fleets.items() if fleet.autoscaling is not None}
        #: By pool and step.
        self._num_ended: dict[str, dict[str, int]] = {pool: {} for pool in self.rules}
        self._share_s: dict[str, dict[str, float]] = {pool: {} for pool in self.rules}

    def count(self, attempt: Attempt) -> None:
        """Count an attempt that has ended; one that failed took its time, and its call is still to come."""
        if attempt.pool in self.rules:
            num_ended, share_s = self._num_ended[attempt.pool], self._share_s[attempt.pool]
            num_ended[attempt.step] = num_ended.get(attempt.step, 0) + attempt.num_answered
            share_s[attempt.step] = share_s.get(attempt.step, 0.0) + attempt.share_s

    def seconds(self, pool: str, num_calls: int) -> float | None:
        """Return the seconds of one replica for all that a pool has left, which is `num_calls` at least; None while no
        call has ended."""
        ended, share_s = self._num_ended[pool], self._share_s[pool]
        if not sum(ended.values()):
            return None
        mean_s = sum(share_s.values()) / sum(ended.values())
        left = {step: max(0.0, num - ended.get(step, 0)) for step, num in self.rules[pool].num_calls.items()}
        planned_s = sum(
            num * (share_s[step] / ended[step] if ended.get(step) else mean_s) for step, num in left.items()
        )
        return planned_s + max(0.0, num_calls - sum(left.values())) * mean_s


class _Autoscaler:
    """This class rents and gives back the replicas of one pool. `look`: says what the pool does now."""

    def __init__(
        self, pool: str, driver: Driver, machines: Machines, work: RemainingWork, look: Callable[[str], PoolLook]
    ) -> None:
        self._pool = pool
        self._rule = work.rules[pool]
        self._driver = driver
        self._machines = machines
        self._work = work
        self._look = look
        #: (when, how many), the newest last.
        self._wishes: deque[tuple[float, int]] = deque()
        self._starting: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Ask the policy now and then, until cancelled."""
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                self._carry_out(self._wished())
        finally:
            for task in self._starting.values():
                task.cancel()

    def _wished(self) -> int:
        look, rule, now_s = self._look(self._pool), self._rule, self._driver.now_s()
        num_calls = look.num_waiting + look.num_running
        num_replicas = len(self._machines.staying(self._pool)) + len(self._starting)
        view = FleetView(
            now_s,
            num_replicas,
            rule.max_replicas,
            num_calls,
            rule.num_target_calls,
            rule.start_s,
            rule.finish_s,
            self._work.seconds(self._pool, num_calls),
        )
        wish = rule.scale(view)
        while self._wishes and self._wishes[0][0] <= now_s - rule.steady_s:
            self._wishes.popleft()
        self._wishes.append((now_s, wish))
        recent = (number for _, number in self._wishes)
        return settled(wish, recent, num_replicas, rule.min_replicas, rule.max_replicas)

    def _carry_out(self, wished: int) -> None:
        """Order or give back until there are so many."""
        serving = self._machines.staying(self._pool)
        for _ in range(wished - len(serving) - len(self._starting)):
            self._order()
        for _ in range(len(serving) + len(self._starting) - wished):
            if self._starting:
                replica_id, task = self._starting.popitem()
                task.cancel()
                self._machines.give_back(replica_id)
            else:
                self._send_away(serving.pop())

    def _order(self) -> None:
        replica_id = self._machines.rent(self._pool)
        self._starting[replica_id] = asyncio.ensure_future(self._start(replica_id))

    async def _start(self, replica_id: str) -> None:
        await asyncio.sleep(self._rule.start_s)
        del self._starting[replica_id]
        self._driver.tell(self._machines.start(self._driver.now_s(), replica_id, self._pool))

    def _send_away(self, replica_id: str) -> None:
        self._machines.leave(replica_id)
        self._driver.tell(ReplicaDraining(self._driver.now_s(), replica_id))


@asynccontextmanager
async def autoscaling(
    driver: Driver, machines: Machines, work: RemainingWork, look: Callable[[str], PoolLook]
) -> AsyncIterator[None]:
    """Replicas of the pools of `work` come and go while the block runs. `look`: by pool."""
    async with beside(*(_Autoscaler(pool, driver, machines, work, look).run() for pool in work.rules)):
        yield
