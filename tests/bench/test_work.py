"""The ratios, the bound, and the modelled engine in its own time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from halo.calls import LLMCall
from halo.case import MODELS
from halo.deployments import modelled_profile
from halo.modelled import load_s, step_time
from halo.work import describe_work, work_bound_s

from sundog.engines.base import Message, Usage
from sundog.host.virtual_loop import run_virtually

SHARED = "s" * 128 * 3


def call(model: str, text: str, num_prompt_tokens: int = 200, num_output_tokens: int = 11) -> LLMCall:
    return LLMCall(model, (Message("user", text),), Usage(num_prompt_tokens, num_output_tokens))


def test_repetition_is_told_from_what_is_new() -> None:
    calls = [call("a", SHARED + "x" * 128), call("a", SHARED + "y" * 128), call("a", SHARED + "x" * 128)]
    found = describe_work([*calls, call("b", SHARED + "x" * 128)])
    assert found["num_calls"] == 4
    assert found["distinct_signature_ratio"] == 0.75
    # Four blocks each; the second shares three (its fourth differs), the third all, another model none.
    assert found["distinct_prefix_ratio"] == (4 + 1 + 0 + 4) / 16
    assert set(found["work"]) == {"a", "b"}
    # The first call's 200 tokens, of the second one's the last quarter; of the output the last token is not fed back.
    assert found["work"]["a"]["num_prefill_tokens"] == 200 + 50
    assert found["work"]["a"]["num_decode_tokens"] == 2 * 10


def test_the_bound_adds_models_up_and_shares_them_out() -> None:
    profiles = dict.fromkeys(MODELS, modelled_profile("a"))
    all_calls = [call("a", "x"), call("b", "y"), call("b", "z")]
    together, of_a = (work_bound_s(describe_work(calls)["work"], profiles, 1) for calls in (all_calls, all_calls[:1]))
    assert together == pytest.approx(3 * of_a)
    assert work_bound_s(describe_work(all_calls)["work"], profiles, 8) == pytest.approx(together / 8)


def test_the_bound_takes_each_model_by_its_own_size() -> None:
    profiles = {model: modelled_profile(model) for model in MODELS}
    bounds = [work_bound_s(describe_work([call(model, "x")])["work"], profiles, 1) for model in MODELS]
    assert [bound / bounds[0] for bound in bounds] == pytest.approx([1, 20 / 14, 32 / 14])


def test_modelled_steps_and_loads_are_in_proportion_to_the_published_sizes() -> None:
    assert [load_s(model) for model in MODELS] == [10.5, 15.0, 24.0]
    assert [step_time(model)[0] / step_time("a")[0] for model in MODELS] == pytest.approx([1, 20 / 14, 32 / 14])


def in_modelled_time(main: Coroutine[Any, Any, Any]) -> Any:
    return run_virtually(main, waits_for_threads=True)


def test_modelled_time_costs_no_time() -> None:
    begin_s = time.monotonic()
    assert in_modelled_time(asyncio.sleep(3600, "slept")) == "slept"
    assert time.monotonic() - begin_s < 60


def test_modelled_time_waits_for_threads() -> None:
    """A timer of an hour does not overtake a thread that works."""

    async def both() -> tuple[list[str], float]:
        order: list[str] = []
        loop = asyncio.get_running_loop()
        loop.call_later(3600, order.append, "timer")
        await asyncio.to_thread(time.sleep, 0.02)
        order.append("thread")
        done = asyncio.Event()
        worker = threading.Thread(target=lambda: (sum(range(3_000_000)), loop.call_soon_threadsafe(done.set)))
        worker.start()
        await done.wait()
        worker.join()
        order.append("a thread that the loop does not know")
        passed_s = loop.time()
        await asyncio.sleep(3601)
        return order, passed_s

    order, passed_s = in_modelled_time(both())
    assert order == ["thread", "a thread that the loop does not know", "timer"]
    assert passed_s == 0
