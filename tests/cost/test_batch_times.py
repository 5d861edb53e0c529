"""Times of whole batches tell the step time that made them, or which coefficient they cannot tell."""

from __future__ import annotations

from dataclasses import astuple, replace

import pytest

from sundog.cost.batch_times import BatchTimes, fit_batches, undetermined
from sundog.cost.step_time import MeasuredStep, StepTime, StepWork, call_work, prefill_work

MODEL = StepTime(8e-3, 25e-6, 55e-6, 6e-8, 4e-9, 6e-8)
MAX_STEP_TOKENS = 2048
SHAPES = [(batch, prompt, 64) for batch in (1, 8, 32) for prompt in (100, 700, 3000)]


def timed(model: StepTime, shape: tuple[int, int, int], *times: str) -> BatchTimes:
    """The batch with the times that the model gives it, worked out by hand."""
    batch, prompt, output = shape
    prefill_steps = -(-batch * prompt // MAX_STEP_TOKENS)
    ttft_s = model.seconds(prefill_work(prompt) * batch + StepWork(num_steps=prefill_steps))
    latency_s = model.seconds(call_work(prompt, 0, output) * batch + StepWork(num_steps=prefill_steps + output - 1))
    known = {"ttft_s": ttft_s, "tpot_s": (latency_s - ttft_s) / (output - 1), "latency_s": latency_s}
    ttft, tpot, latency = (known[name] if name in times else None for name in ("ttft_s", "tpot_s", "latency_s"))
    return BatchTimes(*shape, ttft, tpot, latency)


def steps_of(batches: list[BatchTimes]) -> list[MeasuredStep]:
    return [step for batch in batches for step in batch.steps(MAX_STEP_TOKENS)]


@pytest.mark.parametrize("times", [("ttft_s", "tpot_s"), ("ttft_s", "latency_s"), ("ttft_s", "tpot_s", "latency_s")])
@pytest.mark.parametrize("model", [MODEL, replace(MODEL, step_s=0.05, attention_pair_s=1e-9)])
def test_tables_with_a_time_to_the_first_token_tell_every_coefficient(model: StepTime, times: tuple[str, ...]) -> None:
    batches = [timed(model, shape, *times) for shape in SHAPES]
    assert undetermined(steps_of(batches)) == ()
    found = fit_batches(batches, MAX_STEP_TOKENS)
    assert astuple(found.step_time) == pytest.approx(astuple(model), rel=1e-6)
    assert found.fitted.mape < 1e-6
    assert found.limits.max_decode_requests == 32


@pytest.mark.parametrize(
    ("shapes", "times", "untold"),
    [
        # One size of batch: a step and its requests always come together.
        (
            [(8, 100, 64), (8, 700, 64), (8, 3000, 64)],
            ("tpot_s",),
            {"prefill_token_s", "attention_pair_s", "step_s", "decode_token_s"},
        ),
        # One length of prompts.
        (
            [(1, 700, 64), (8, 700, 64), (32, 700, 64)],
            ("tpot_s",),
            {"prefill_token_s", "attention_pair_s", "decode_token_s", "context_token_s"},
        ),
        # Tokens between others say nothing of prompts.
        (SHAPES, ("tpot_s",), {"prefill_token_s", "attention_pair_s"}),
    ],
)
def test_what_the_batches_cannot_tell_is_named(
    shapes: list[tuple[int, int, int]], times: tuple[str, ...], untold: set[str]
) -> None:
    batches = [timed(MODEL, shape, *times) for shape in shapes]
    assert set(undetermined(steps_of(batches))) == untold


def test_a_coefficient_may_be_assumed_to_be_zero() -> None:
    """As much output as prompt: pairs of attention grow as the context does, to a part in a few hundred."""
    shapes = [(batch, length, length) for batch in (1, 16, 64) for length in (128, 512, 2048)]
    batches = [timed(MODEL, shape, "latency_s") for shape in shapes] + [timed(MODEL, (16, 1024, 2), "ttft_s")]
    assert "attention_pair_s" in undetermined(steps_of(batches))
    assert undetermined(steps_of(batches), {"attention_pair_s"}) == ()
    found = fit_batches(batches, MAX_STEP_TOKENS, assumed_zero={"attention_pair_s"})
    assert found.step_time.attention_pair_s == 0
    assert found.step_time.step_s == pytest.approx(MODEL.step_s, rel=0.02)


def test_repetitions_of_a_shape_are_held_out_together() -> None:
    """Only one shape has long prompts, so that no other foretells its pairs of attention, however often it was seen."""
    model = replace(MODEL, attention_pair_s=1e-7)
    shapes = [(batch, prompt, 64) for batch in (1, 8, 32) for prompt in (10, 20, 40)]
    short = [timed(model, shape, "ttft_s", "tpot_s") for shape in shapes]
    noisy = [
        replace(one, ttft_s=(one.ttft_s or 0.0) * (0.99, 1.0, 1.01)[number % 3]) for number, one in enumerate(short)
    ]
    found = fit_batches([*noisy, *[timed(model, (4, 5000, 64), "ttft_s")] * 5], MAX_STEP_TOKENS)
    assert found.fitted.mape < 0.01
    assert found.held_out.mape > 0.05


def test_shared_context_costs_as_much_as_other() -> None:
    found = fit_batches([timed(MODEL, shape, "ttft_s", "tpot_s") for shape in SHAPES], MAX_STEP_TOKENS, 7)
    assert found.step_time.shared_context_token_s == found.step_time.context_token_s
    assert found.limits.max_decode_requests == 7
