"""Agents with tools on modelled engines, more of them than the KV cache holds: how soon they end, and what is computed
twice, by policy set.

The agents are those of vllm_agents.py (the shape of SWE-agent's runs, scaled down), the steps those of
vllm_agents_modelled.py (SmolLM2-135M on one CPU thread), with 64 slots for each replica. Tools take as long as they
did, and ten times as long: 1 to 15 s. Time is virtual: nothing depends on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from statistics import fmean, quantiles
from typing import Any
from zlib import crc32

from machine import save
from vllm_agents import MAX_TOKENS, Program, made

from sundog.engines.base import Usage
from sundog.engines.modelled.replica import StepSeconds
from sundog.host.attempt import Success
from sundog.host.driver import Driver
from sundog.host.virtual_loop import run_virtually
from sundog.sched.core import SchedulerCore
from sundog.sched.events import ReplicaAdded, RequestArrived, Submit
from sundog.sched.facts import CallFacts
from sundog.sched.policy import POLICIES, PolicySet
from sundog.sim.replica import SimulatedReplica
from sundog.sim.workload import ModelledEngine, SimulatedCall

STEPS = StepSeconds(20.08e-3, 1.128e-3, 1.447e-3, 2.646e-6, 0.935e-6)
BLOCK_TOKENS = 32
NUM_SLOTS = 64
SETS = ("fcfs", "prefix_grouped", "continuum", "live")
SHARES = (0.3, 0.4, 0.5)
"""The shares of the tokens of all programs at their ends that the caches of all replicas hold."""
TOOLS = (1.0, 10.0)
REPLICAS = (1, 2)


@dataclass
class Counted:
    """The figures of one run."""

    program_s: list[float] = field(default_factory=list)
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0

    def summary(self, least: int) -> dict[str, float]:
        return {
            "mean_program_s": round(fmean(self.program_s), 2),
            "p95_program_s": round(quantiles(self.program_s, n=20)[-1], 2),
            "prefill_over_least": round((self.num_prompt_tokens - self.num_cached_tokens) / least, 3),
        }


class Agents:
    """Programs at the replicas of one pool."""

    def __init__(self, policies: PolicySet, num_replicas: int, num_blocks: int) -> None:
        self.counted = Counted()
        self._driver = Driver(SchedulerCore(policies), lambda event: None)
        num_tokens = num_blocks * BLOCK_TOKENS
        engine = ModelledEngine(NUM_SLOTS, STEPS, 512, num_tokens, num_tokens, BLOCK_TOKENS)
        self._replicas = {f"p/{number}": SimulatedReplica("p", engine) for number in range(num_replicas)}
        for name in self._replicas:
            self._driver.tell(
                ReplicaAdded(0.0, name, "p", NUM_SLOTS, num_tokens, num_blocks, shares_cold_prefixes=True)
            )

    async def run(self, programs: Sequence[Program]) -> None:
        await asyncio.gather(*(self._program(number, program) for number, program in enumerate(programs)))
        for replica in self._replicas.values():
            await replica.lose()

    async def _program(self, number: int, program: Program) -> None:
        await asyncio.sleep(program.arrival_s)
        before: list[int] = []
        for turn, tool_s in enumerate(program.tool_s):
            prompt = list(program.call(turn, before).prompt)
            await self._turn(number, program, turn, prompt)
            before = prompt + [-number * 1000 - turn] * program.num_output_tokens[turn]
            if turn + 1 < len(program.tool_s):
                await asyncio.sleep(tool_s)
        self.counted.program_s.append(asyncio.get_running_loop().time() - program.arrival_s)

    async def _turn(self, number: int, program: Program, turn: int, prompt: list[int]) -> None:
        is_last = turn + 1 == len(program.tool_s)
        facts = CallFacts("agents", "turn", is_last_turn=is_last, tool="shell")
        name, num_output, key = f"{program.name}/{turn}", program.num_output_tokens[turn], prefix_key(prompt)
        call = SimulatedCall("turn", "p", (), None, turn, len(prompt), num_output, MAX_TOKENS, key)
        arrived = RequestArrived(
            0.0, name, "p", number, turn, len(prompt), MAX_TOKENS, key, workflow_id=program.name, facts=facts
        )

        async def attempt(submit: Submit) -> Success[None]:
            replica = self._replicas[submit.replica_id]
            num_cached = await replica.answer(call, lambda: self._driver.prefill_ended(name))
            self.counted.num_prompt_tokens += len(prompt)
            self.counted.num_cached_tokens += num_cached
            return Success(None, Usage(len(prompt), num_output, num_cached))

        await self._driver.run(arrived, attempt)


def prefix_key(prompt: Sequence[int]) -> tuple[int, ...]:
    key, value = [], 0
    for start in range(0, len(prompt) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        value = crc32(repr(prompt[start : start + BLOCK_TOKENS]).encode(), value)
        key.append(value)
    return tuple(key)


def run(policies: PolicySet, programs: Sequence[Program], num_replicas: int, num_blocks: int) -> Counted:
    async def main() -> Counted:
        agents = Agents(policies, num_replicas, num_blocks)
        await agents.run(programs)
        return agents.counted

    return run_virtually(main())


def compared(programs: Sequence[Program], policies: Sequence[str], num_replicas: int, share: float) -> dict[str, Any]:
    """The figures of each policy set, where the caches hold that share of what the programs have at their ends."""
    num_context_tokens = sum(program.num_tokens for program in programs)
    num_blocks = int(share * num_context_tokens / num_replicas / BLOCK_TOKENS)
    ample = run(POLICIES.get("fcfs"), programs, 1, num_context_tokens)
    least = ample.num_prompt_tokens - ample.num_cached_tokens
    return {name: run(POLICIES.get(name), programs, num_replicas, num_blocks).summary(least) for name in policies}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=int, default=128)
    parser.add_argument("--policies", nargs="+", default=SETS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    runs: list[dict[str, Any]] = []
    for num_replicas, tools, share, seed in product(REPLICAS, TOOLS, SHARES, given.seeds):
        programs = [
            replace(one, tool_s=[tools * tool_s for tool_s in one.tool_s]) for one in made(given.programs, seed)
        ]
        facts = {"num_replicas": num_replicas, "tools": tools, "share": share, "seed": seed}
        runs.append({**facts, **compared(programs, given.policies, num_replicas, share)})
        print(runs[-1], flush=True)
    save("live_agents", {"num_programs": given.programs, "runs": runs, "mean": mean(runs, given.policies)})


def mean(runs: Sequence[dict[str, Any]], policies: Sequence[str]) -> list[dict[str, Any]]:
    """The figures of each case, in the mean of its seeds."""
    found = []
    for num_replicas, tools, share in product(REPLICAS, TOOLS, SHARES):
        facts = {"num_replicas": num_replicas, "tools": tools, "share": share}
        alike = [one for one in runs if facts.items() <= one.items()]
        figures = {
            name: {key: round(fmean(one[name][key] for one in alike), 2) for key in alike[0][name]} for name in policies
        }
        found.append({**facts, **figures})
    return found


if __name__ == "__main__":
    main()
