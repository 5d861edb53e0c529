"""The played batch against a batch that really ran on modelled steps, in virtual time."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from sundog.cost.engine_model import EngineModel
from sundog.cost.profile import Profile, StepLimits
from sundog.cost.step_time import FitError, StepTime
from sundog.cost.wavefront import SimulatedCall, play
from sundog.engines.modelled.replica import StepSeconds
from sundog.engines.modelled.steps import ModelledSteps
from sundog.host.virtual_loop import run_virtually

SECONDS = (10e-3, 1e-3, 1e-3, 5e-6, 1e-7)
NO_ERROR = FitError(1, 0.0, 0.0, 0.0)


def engine(
    max_concurrency: int, max_tokens: int | None = None, block_tokens: int | None = None, pool: str = "e"
) -> EngineModel:
    profile = Profile(StepTime(*SECONDS, SECONDS[3]), StepLimits(256, 64), NO_ERROR, NO_ERROR, {})
    return EngineModel(
        pool, profile, max_concurrency=max_concurrency, max_tokens_in_flight=max_tokens, block_tokens=block_tokens
    )


def llm_call(number: int, before: tuple[int, ...], prompt: int, output: int, key: str | None = None) -> SimulatedCall:
    return SimulatedCall("e", before, key, (float(number),), (), prompt, output, prompt + output)


def chains(num_rows: int, num_steps: int, seed: int) -> list[SimulatedCall]:
    rng = random.Random(seed)
    found: list[SimulatedCall] = []
    for _ in range(num_rows):
        for step in range(num_steps):
            before = (len(found) - 1,) if step else ()
            found.append(llm_call(len(found), before, rng.randint(20, 600), rng.randint(1, 40)))
    return found


@pytest.mark.parametrize(("num_rows", "num_steps", "slots"), [(1, 3, 4), (5, 2, 8), (40, 3, 8), (40, 1, 32)])
def test_a_played_batch_takes_as_long_as_a_modelled_one(num_rows: int, num_steps: int, slots: int) -> None:
    calls = chains(num_rows, num_steps, num_rows)

    async def run() -> float:
        steps, room = ModelledSteps(StepSeconds(*SECONDS), 256), asyncio.Semaphore(slots)

        async def row(number: int) -> None:
            for call in calls[number * num_steps : (number + 1) * num_steps]:
                async with room:
                    async for _ in steps.generate(call.num_prompt_tokens, call.num_output_tokens):
                        pass

        await asyncio.gather(*(row(number) for number in range(num_rows)))
        return asyncio.get_running_loop().time()

    # The order among those who wait differs: the semaphore takes them as they come, the scheduler by rank.
    assert play(calls, {"e": [engine(slots)]}, {}, {}).makespan_s == pytest.approx(run_virtually(run()), rel=0.05)


def test_one_request_takes_its_steps() -> None:
    played = play([llm_call(0, (), 300, 3)], {"e": [engine(4)]}, {}, {})
    prefill_s = 2 * 10e-3 + 300e-3 + 1e-7 * 300**2 / 2
    decode_s = 2 * 11e-3 + 5e-6 * (300 + 301)
    assert played.makespan_s == pytest.approx(prefill_s + decode_s)
    assert played.busy_s == {"e": pytest.approx(prefill_s + decode_s)}


def test_tools_wait_for_room_and_overlap_with_the_engine() -> None:
    tools = [SimulatedCall("t", (), None, (float(number),), tool_s=1.0) for number in range(5)]
    assert play(tools, {}, {"t": 2}, {}).makespan_s == 3.0
    after = SimulatedCall("t", (0,), None, (9.0,), tool_s=0.5)
    alone = play([llm_call(0, (), 100, 5)], {"e": [engine(4)]}, {}, {}).makespan_s
    assert play([llm_call(0, (), 100, 5), after], {"e": [engine(4)]}, {"t": 1}, {}).makespan_s == pytest.approx(
        alone + 0.5
    )


def test_equal_calls_are_made_once_and_skipped_ones_take_no_time() -> None:
    calls = [llm_call(number, (), 100, 5, key="same") for number in range(6)]
    one = play(calls[:1], {"e": [engine(1)]}, {}, {})
    assert play(calls, {"e": [engine(1)]}, {}, {}) == one
    skipped = [SimulatedCall(None, (0,), None), llm_call(2, (1,), 100, 5)]
    assert play([calls[0], *skipped], {"e": [engine(1)]}, {}, {}).makespan_s == pytest.approx(2 * one.makespan_s)


def test_warm_blocks_are_not_computed_again() -> None:
    calls = [SimulatedCall("e", (), None, (float(i),), (7, 8, 9), 100, 1, 101) for i in range(2)]
    cold = play(calls[:1], {"e": [engine(1, block_tokens=32)]}, {}, {}).makespan_s
    both = play(calls, {"e": [engine(1, block_tokens=32)]}, {}, {}).makespan_s
    assert both - cold == pytest.approx(10e-3 + 4e-3 + 1e-7 * (4 * 96 + 8))


def test_tokens_in_flight_are_bounded_but_an_idle_engine_takes_anything() -> None:
    calls = [llm_call(number, (), 200, 30) for number in range(4)]
    free, bound = (play(calls, {"e": [engine(4, limit)]}, {}, {}).makespan_s for limit in (None, 100))
    assert bound == pytest.approx(4 * play(calls[:1], {"e": [engine(4)]}, {}, {}).makespan_s)
    assert free < 0.7 * bound


def test_replicas_share_the_queue() -> None:
    calls = [llm_call(number, (), 500, 1) for number in range(8)]
    one = play(calls, {"e": [engine(1)]}, {}, {}).makespan_s
    assert play(calls, {"e": [engine(1), engine(1)]}, {}, {}).makespan_s == pytest.approx(one / 2)


def test_engines_on_one_device_work_one_at_a_time() -> None:
    """Two of `e`, and one of `f` that a call of `e` waits for."""
    calls = [
        llm_call(0, (), 200, 10),
        llm_call(1, (), 200, 10),
        SimulatedCall("f", (), None, (2.0,), (), 200, 10, 210),
        llm_call(3, (2,), 200, 10),
    ]

    def makespan_s(numbers: list[int], devices: dict[str, str]) -> float:
        engines = {"e": [engine(4)], "f": [engine(4, pool="f")]}
        chosen = [replace(calls[number], before=()) for number in numbers]
        if len(numbers) == len(calls):
            chosen = calls
        return play(chosen, engines, {}, devices).makespan_s

    both, alone = makespan_s([0, 1], {}), makespan_s([0], {})
    assert makespan_s([0, 1, 2], {}) == pytest.approx(both)
    assert makespan_s([0, 1, 2], {"e": "gpu", "f": "gpu"}) == pytest.approx(both + alone)
    assert makespan_s([0, 1, 2], {"e": "gpu", "f": "other"}) == pytest.approx(both)
    assert makespan_s([0, 1, 2, 3], {"e": "gpu", "f": "gpu"}) == pytest.approx(both + 2 * alone)
