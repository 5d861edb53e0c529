"""Fits recover the coefficients that made the steps."""

from __future__ import annotations

import random
from dataclasses import astuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sundog.cost.step_time import (
    MeasuredStep,
    StepTime,
    StepWork,
    call_work,
    decode_work,
    fit,
    fit_error_of,
    prefill_work,
    with_total,
)

MODEL = StepTime(20e-3, 1.1e-3, 1.4e-3, 2.6e-6, 0.9e-6, 0.7e-6)


def some_work(rng: random.Random) -> StepWork:
    """A step like one of a running engine."""
    num_decoding = rng.choice((0, 1, 4, 16, 32))
    num_shared = rng.choice((0, 0, 300, 700))
    prompts = [num_shared + rng.randrange(20, 1500) for _ in range(num_decoding)]
    work = sum((decode_work(1, num_tokens, num_shared) for num_tokens in prompts), StepWork(num_steps=1))
    if not num_decoding or rng.random() < 0.4:
        work += prefill_work(rng.randrange(1, 500), rng.choice((0, 0, 256, 900)))
    return work


def some_steps(model: StepTime, seed: int, num_steps: int = 300, noise: float = 0.0) -> list[MeasuredStep]:
    rng = random.Random(seed)
    works = [some_work(rng) for _ in range(num_steps)]
    return [MeasuredStep(work, model.seconds(work) * rng.lognormvariate(0, noise)) for work in works]


@given(st.lists(st.floats(0.1, 10), min_size=6, max_size=6), st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_a_fit_finds_the_coefficients(factors: list[float], seed: int) -> None:
    model = StepTime(*(factor * each for factor, each in zip(factors, astuple(MODEL), strict=True)))
    assert astuple(fit(some_steps(model, seed))) == pytest.approx(astuple(model), rel=1e-6)


def test_noise_moves_the_coefficients_little() -> None:
    steps = some_steps(MODEL, seed=1, noise=0.05)
    found = fit(steps)
    assert astuple(found) == pytest.approx(astuple(MODEL), rel=0.15)
    assert fit_error_of(found, steps).mape == pytest.approx(0.04, abs=0.01)
    assert fit_error_of(found, some_steps(MODEL, seed=2)).mape < 0.01


def test_interrupted_steps_count_little() -> None:
    """One step in ten takes three times as long: another process had the processor."""
    steps = [
        MeasuredStep(step.work, step.elapsed_s * (3 if number % 10 == 0 else 1))
        for number, step in enumerate(some_steps(MODEL, seed=3, noise=0.02))
    ]
    assert fit_error_of(fit(steps), some_steps(MODEL, seed=4)).mape < 0.02


def test_the_total_is_what_the_steps_took() -> None:
    """One step in five is slow by half, one in a hundred by a thousand times: the latter counts as three times."""
    clean = some_steps(MODEL, seed=3)
    slowdown = {0: 1.5, 7: 1000.0}
    steps = [
        MeasuredStep(step.work, step.elapsed_s * slowdown.get(number % 100 if number % 100 == 7 else number % 5, 1.0))
        for number, step in enumerate(clean)
    ]
    scaled = with_total(MODEL, steps)
    expected = sum(min(step.elapsed_s, 3 * model_s.elapsed_s) for step, model_s in zip(steps, clean, strict=True))
    assert sum(scaled.seconds(step.work) for step in steps) == pytest.approx(expected)
    assert len({round(a / b, 9) for a, b in zip(astuple(scaled), astuple(MODEL), strict=True)}) == 1


@pytest.mark.parametrize("absent", range(6))
def test_what_costs_nothing_gets_no_negative_coefficient(absent: int) -> None:
    coefficients = list(astuple(MODEL))
    coefficients[absent] = 0.0
    found = astuple(fit(some_steps(StepTime(*coefficients), seed=5, noise=0.05)))
    assert min(found) >= 0.0
    assert [found[i] for i in range(6) if i != absent] == pytest.approx(
        [coefficients[i] for i in range(6) if i != absent], rel=0.25
    )


def test_what_never_occurs_gets_no_coefficient() -> None:
    steps = [MeasuredStep(StepWork(1, 0, n, 100 * n, 0), 0.01 + 0.002 * n) for n in (1, 2, 8)]
    found = fit(steps)
    assert (found.prefill_token_s, found.attention_pair_s) == (0.0, 0.0)
    assert fit_error_of(found, steps).mape < 1e-9


def test_errors_are_relative() -> None:
    steps = [MeasuredStep(StepWork(1), seconds) for seconds in (1.0, 0.5, 2.0, 1.0, 0.8)]
    found = fit_error_of(StepTime(1.0, 0, 0, 0, 0, 0), steps)
    assert found.num_steps == 5
    assert found.mape == pytest.approx((0 + 1.0 + 0.5 + 0 + 0.25) / 5)
    assert found.median == pytest.approx(0.25)
    assert found.p90 == pytest.approx(0.5)


def test_the_work_of_a_call_is_that_of_its_steps() -> None:
    """100 tokens of which 32 are cached, in chunks of 50; then 4 answer tokens, of which 3 are fed back."""
    steps = [prefill_work(50, 32), prefill_work(18, 82), *(decode_work(1, 100 + number) for number in range(3))]
    assert sum(steps, StepWork()) == call_work(100, 32, 4)
    assert call_work(100, 100, 0) == StepWork()
    assert call_work(100, 32, 4, is_shared=True) == prefill_work(68, 32) + decode_work(3, 100, 32)
    assert decode_work(3, 100, 32).num_shared_context_tokens == 96
