"""Batch work beside live load on modelled engines, under the policy set `live`: what does it cost those who wait, and
how much of what they leave does it get?

Steps have the round numbers of `halo.modelled` (a model of 30 billion parameters on one GPU; not measured). Live
requests and those of the batch are alike: 200 to 800 tokens of prompt, 50 to 250 of answer. Live load is a Poisson
process whose rate stands still, or swings between a tenth and its peak as the days do, in ten minutes. The batch never
runs out. Time is virtual: nothing depends on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import cos, pi
from statistics import median, quantiles
from typing import Any

from halo.modelled import MAX_STEP_TOKENS, STEP_TIME
from machine import save

from sundog.engines.base import Usage
from sundog.engines.modelled.replica import StepSeconds
from sundog.host.attempt import Success
from sundog.host.driver import Driver
from sundog.host.virtual_loop import run_virtually
from sundog.sched.catalog import LIVE
from sundog.sched.core import SchedulerCore
from sundog.sched.events import ReplicaAdded, RequestArrived, Submit
from sundog.sched.facts import CallFacts, Tier
from sundog.sched.policy import PolicySet
from sundog.sim.replica import SimulatedReplica
from sundog.sim.workload import ModelledEngine, SimulatedCall

NUM_SLOTS = 32
PERIOD_S = 600.0
LOW = 0.1
MAX_TOKENS = 250
ENGINE = ModelledEngine(NUM_SLOTS, StepSeconds(*STEP_TIME), MAX_STEP_TOKENS)
Rate = Callable[[float], float]
"""The share of a replica's capacity that comes as live load at a time."""


@dataclass
class Counted:
    """The figures of one run."""

    live_s: list[float] = field(default_factory=list)
    first_token_s: list[float] = field(default_factory=list)
    num_tokens: dict[str, int] = field(default_factory=lambda: {"default": 0, "batch": 0})


class Served:
    """Requests of two tiers at the replicas of one pool, for `run_s` seconds."""

    def __init__(self, policies: PolicySet, num_replicas: int, run_s: float) -> None:
        self.counted = Counted()
        self._driver = Driver(SchedulerCore(policies), lambda event: None)
        self._replicas = {f"p/{number}": SimulatedReplica("p", ENGINE) for number in range(num_replicas)}
        for name in self._replicas:
            self._driver.tell(ReplicaAdded(0.0, name, "p", NUM_SLOTS))
        self._run_s = run_s
        self._number = 0

    async def run(self, live: Rate | None, capacity: float, *, has_batch: bool) -> Counted:
        """`capacity`: requests a second of one replica."""
        num_replicas = len(self._replicas)
        async with asyncio.TaskGroup() as tasks:
            if live is not None:
                tasks.create_task(self._come(tasks, live, capacity * num_replicas))
            for number in range(2 * NUM_SLOTS * num_replicas if has_batch else 0):
                tasks.create_task(self._work(random.Random(number)))
        for replica in self._replicas.values():
            await replica.lose()
        return self.counted

    async def _come(self, tasks: asyncio.TaskGroup, live: Rate, capacity: float) -> None:
        chance = random.Random(0)
        while (now_s := asyncio.get_running_loop().time()) < self._run_s:
            await asyncio.sleep(chance.expovariate(capacity))
            if chance.random() < live(now_s):
                tasks.create_task(self._ask("default", chance.randint(200, 800), chance.randint(50, MAX_TOKENS)))

    async def _work(self, chance: random.Random) -> None:
        while asyncio.get_running_loop().time() < self._run_s:
            await self._ask("batch", chance.randint(200, 800), chance.randint(50, MAX_TOKENS))

    async def _ask(self, tier: Tier, num_prompt: int, num_output: int) -> None:
        self._number += 1
        name, loop = f"r{self._number}", asyncio.get_running_loop()
        call = SimulatedCall("ask", "p", num_prompt_tokens=num_prompt, num_output_tokens=num_output)
        arrived = RequestArrived(0.0, name, "p", 0, 0, num_prompt, MAX_TOKENS, facts=CallFacts("", "ask", tier=tier))
        begin_s, firsts = loop.time(), list[float]()

        async def attempt(submit: Submit) -> Success[None]:
            await self._replicas[submit.replica_id].answer(call, lambda: firsts.append(loop.time()))
            return Success(None, Usage(num_prompt, num_output, 0))

        await self._driver.run(arrived, attempt)
        if loop.time() < self._run_s:
            self.counted.num_tokens[tier] += num_output
        if tier != "batch":
            self.counted.live_s.append(loop.time() - begin_s)
            self.counted.first_token_s.append(firsts[0] - begin_s)


def swinging(peak: float) -> Rate:
    return lambda time_s: peak * (LOW + (1.0 - LOW) * (0.5 - 0.5 * cos(2 * pi * time_s / PERIOD_S)))


def steady(share: float) -> Rate:
    return lambda time_s: share


LOADS: dict[str, Rate] = {
    "swings to 0.9": swinging(0.9),
    "swings to 1.1": swinging(1.1),
    "swings to 1.3": swinging(1.3),
    "stands at 0.3": steady(0.3),
    "stands at 0.6": steady(0.6),
    "stands at 0.9": steady(0.9),
}


def measure(policies: PolicySet, live: Rate | None, capacity: float, given: Any, *, has_batch: bool) -> Counted:
    async def main() -> Counted:
        return await Served(policies, given.replicas, given.seconds).run(live, capacity, has_batch=has_batch)

    return run_virtually(main())


def p95(times_s: Sequence[float]) -> float:
    return quantiles(times_s, n=20)[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1800.0)
    given = parser.parse_args()
    alone = measure(replace(LIVE, admit=()), None, 0.0, given, has_batch=True)
    most = alone.num_tokens["batch"] / given.seconds
    capacity = most / given.replicas / ((50 + MAX_TOKENS) / 2)
    runs = {}
    for name, live in LOADS.items():
        before, after = (measure(LIVE, live, capacity, given, has_batch=has_batch) for has_batch in (False, True))
        left = most - before.num_tokens["default"] / given.seconds
        runs[name] = {
            "live_share": round(1.0 - left / most, 3),
            "live_p95_s": [round(p95(one.live_s), 2) for one in (before, after)],
            "live_median_s": [round(median(one.live_s), 2) for one in (before, after)],
            "first_token_p95_s": [round(p95(one.first_token_s), 3) for one in (before, after)],
            "p95_ratio": round(p95(after.live_s) / p95(before.live_s), 3),
            "batch_share_of_left": round(after.num_tokens["batch"] / given.seconds / left, 3),
        }
        print(name, runs[name], flush=True)
    save("live_batch", {"num_replicas": given.replicas, "tokens_per_s": round(most), "loads": runs})


if __name__ == "__main__":
    main()
