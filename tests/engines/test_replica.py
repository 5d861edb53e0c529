"""Modelled steps taken together against the same steps taken one by one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.engines.modelled.block_table import BlockTable
from sundog.engines.modelled.replica import Job, ModelledReplica, StepSeconds
from sundog.engines.modelled.steps import ModelledSteps, SharedProcessor
from sundog.host.virtual_loop import run_virtually

SECONDS = StepSeconds(10e-3, 1e-3, 1e-3, 5e-6, 1e-7)
BLOCK_TOKENS = 8


@dataclass(frozen=True)
class Arrival:
    time_s: float
    num_prompt_tokens: int
    num_output_tokens: int
    family: int

    def job(self) -> Job:
        keys = tuple(hash((self.family, end)) for end in range(self.num_prompt_tokens // BLOCK_TOKENS))
        return Job(self.num_prompt_tokens, self.num_output_tokens, keys)


class OneByOne(ModelledReplica):
    """Never takes two steps together."""

    def _chunks(self, room: int, num_steps: int) -> tuple[int, float, int]:
        return *super()._chunks(room, num_steps)[:2], 1


def played(replica: ModelledReplica, arrivals: list[Arrival]) -> tuple[list[float], int]:
    """Return when each request ends, and how many are preempted."""
    jobs = [arrival.job() for arrival in arrivals]
    ends_s = [0.0] * len(jobs)
    left = sorted(range(len(jobs)), key=lambda number: arrivals[number].time_s)
    while left or replica.due_s is not None:
        due_s = replica.due_s
        if left and (due_s is None or arrivals[left[0]].time_s < due_s):
            number = left.pop(0)
            replica.add(jobs[number], arrivals[number].time_s)
            continue
        assert due_s is not None
        for job in replica.pass_steps(due_s):
            if job.has_ended:
                ends_s[jobs.index(job)] = due_s
    return ends_s, replica.num_preemptions


arrivals_of = st.lists(
    st.builds(Arrival, st.floats(0, 2), st.integers(1, 90), st.integers(1, 40), st.integers(0, 2)),
    min_size=1,
    max_size=12,
)


@given(arrivals_of, st.sampled_from([None, 20, 40, 200]), st.sampled_from([16, 64]))
def test_steps_taken_together_end_when_single_ones_do(
    arrivals: list[Arrival], num_blocks: int | None, max_step_tokens: int
) -> None:
    ends = []
    for kind in (OneByOne, ModelledReplica):
        table = None if num_blocks is None else BlockTable(num_blocks, BLOCK_TOKENS)
        ends.append(played(kind(SECONDS, max_step_tokens, table), arrivals))
        assert table is None or table.num_available == num_blocks, "all blocks are given back"
        assert table is None or table.num_shared_tokens == 0
    assert ends[1][0] == pytest.approx(ends[0][0], rel=1e-9)
    assert ends[1][1] == ends[0][1]


def test_many_steps_cost_few_operations() -> None:
    replica = ModelledReplica(SECONDS, 256)
    for number in range(8):
        replica.add(Job(10, 1000 + number), 0.0)
    num_operations = 0
    while replica.due_s is not None:
        replica.pass_steps(replica.due_s)
        num_operations += 1
    assert (num_operations, replica.num_steps) == (9, 1007)


def test_what_comes_as_a_step_begins_is_in_it() -> None:
    replica = ModelledReplica(StepSeconds(1.0, 0.0, 0.0, 0.0, 0.0), 256)
    for time_s in (0.0, 0.0, 0.5):
        replica.add(Job(10, 2), time_s)
    ends = []
    while (due_s := replica.due_s) is not None:
        ends += [due_s] * sum(job.has_ended for job in replica.pass_steps(due_s))
    assert ends == [2.0, 2.0, 3.0]


def test_who_leaves_takes_part_in_no_further_step() -> None:
    replica = ModelledReplica(StepSeconds(1.0, 0.0, 1.0, 0.0, 0.0), 256, BlockTable(16, BLOCK_TOKENS))
    stays, leaves = Job(10, 10), Job(10, 10)
    replica.add(stays, 0.0)
    replica.add(leaves, 0.0)
    replica.pass_steps(1.0)
    replica.remove(leaves, 4.5)
    assert replica.due_s == 7.0
    assert replica.pass_steps(7.0) == []
    assert replica.due_s == 7.0 + 2.0 * 7
    assert replica.jobs == (stays,)


def test_shared_context_costs_its_own_price() -> None:
    table = BlockTable(64, BLOCK_TOKENS)
    seconds = StepSeconds(1.0, 0.0, 0.0, 0.01, 0.0, shared_context_token_s=0.0)
    replica = ModelledReplica(seconds, 256, table)
    keys = (1, 2)
    for _ in range(2):
        replica.add(Job(20, 2, keys), 0.0)
    replica.pass_steps(1.0)
    assert table.num_shared_tokens == 16, "the first of them reads it alone"
    assert replica.due_s == pytest.approx(1.0 + 1.0 + 0.01 * (2 * 21 - 16))


def test_replicas_on_one_device_share_it() -> None:
    """Both take twice as long while the other one runs; what is left of the longer one runs at full speed."""

    async def main() -> list[float]:
        device, loop = SharedProcessor(), asyncio.get_running_loop()
        seconds = StepSeconds(1.0, 0.0, 0.0, 0.0, 0.0)
        steps = [ModelledSteps(seconds, 256, device=device) for _ in range(2)]

        async def ask(one: ModelledSteps, num_output_tokens: int) -> float:
            async for _ in one.generate(10, num_output_tokens):
                pass
            return loop.time()

        return list(await asyncio.gather(ask(steps[0], 3), ask(steps[1], 8)))

    assert run_virtually(main()) == [6.0, 11.0]
