"""Histories and what is read from them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.sched.books.samples import RecentSamples, RecentSamplesByKey
from sundog.sched.policies.prediction import MIN_SAMPLES, quantile_above, remaining_output_tokens
from sundog.sched.views import RequestView, SchedView


def history(*samples: float, max_samples: int = 100) -> RecentSamples:
    found = RecentSamples(max_samples)
    for sample in samples:
        found.add(sample)
    return found


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 8))
def test_a_history_holds_the_last_samples_in_order_of_size(samples: list[int], max_samples: int) -> None:
    found = history(*samples, max_samples=max_samples)
    assert list(found.ordered) == sorted(samples[-max_samples:])
    assert len(found) == len(found.ordered)


def test_keys_are_bounded_and_the_one_unused_longest_goes() -> None:
    found: RecentSamplesByKey[str] = RecentSamplesByKey(max_samples=2, max_keys=2)
    for key, sample in (("a", 1), ("b", 2), ("a", 3), ("c", 4), ("a", 5)):
        found.add(key, sample)
    assert {key: list(one.ordered) for key, one in found.items()} == {"a": [3, 5], "c": [4]}
    assert found.get("b") is None


FULL = tuple(float(10 * number) for number in range(1, MIN_SAMPLES + 2))


@pytest.mark.parametrize(
    ("why", "samples", "num_so_far", "bound", "quantile", "expected"),
    [
        ("the least of all", FULL, 0, 500, 0.0, 10),
        ("the bound is one sample more", FULL, 0, 500, 1.0, 500),
        ("between neighbours in proportion", FULL, 0, 500, 0.5 / 21, 15),
        ("only what is longer than it is now", FULL, 100, 500, 0.0, 110),
        ("a bound that the samples pass", FULL, 0, 55, 0.9, 55),
        ("longer than any: from here to the bound", FULL, 300, 500, 0.5, 400),
        ("few samples: the bound stands in", (10.0,), 0, 500, 0.5, 500),
        ("few samples: but not for the least", (10.0,), 0, 500, 0.0, 10),
        ("none", (), 0, 500, 0.5, 250),
    ],
)
def test_quantile_above(
    why: str, samples: tuple[float, ...], num_so_far: int, bound: float, quantile: float, expected: float
) -> None:
    assert quantile_above(history(*samples), num_so_far, bound, quantile) == pytest.approx(expected), why


@given(
    samples=st.lists(st.integers(1, 400), max_size=60),
    num_so_far=st.integers(0, 300),
    num_more=st.integers(0, 300),
    quantiles=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
)
def test_quantiles_lie_between_what_is_there_and_the_bound_and_rise(
    samples: list[int], num_so_far: int, num_more: int, quantiles: list[float]
) -> None:
    bound = num_so_far + num_more
    low, high = (quantile_above(history(*samples), num_so_far, bound, quantile) for quantile in quantiles)
    assert num_so_far <= low <= high + 1e-9 <= bound + 1e-6


def test_remaining_output_tokens_by_step_and_model_else_as_told() -> None:
    lengths: RecentSamplesByKey[tuple[str, str]] = RecentSamplesByKey(100, 9)
    for _ in range(MIN_SAMPLES):
        lengths.add(("plan", "m"), 30)
    sched = SchedView(output_lengths=lengths)
    one = RequestView("r", "p", num_expected_output_tokens=80, max_tokens=200, node="plan", model="m")
    assert remaining_output_tokens(one, sched, 0.5) == 30
    one.num_output_tokens = 10
    assert remaining_output_tokens(one, sched, 0.5) == 20
    one.model = "another"
    assert remaining_output_tokens(one, sched, 0.5) == 70
    one.num_output_tokens = 90
    assert remaining_output_tokens(one, sched, 0.5) == 1, "it has not ended"
