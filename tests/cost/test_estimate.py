"""Ranges hold the truth nine times in ten, over many synthetic batches."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from sundog.cost.estimate import NOTHING, Estimate, distinct_of, share_of, sum_of, total_of

NUM_TRIALS = 300
Draw = Callable[[random.Random], float]


def coverage(holds: Callable[[random.Random], bool]) -> float:
    return sum(holds(random.Random(seed)) for seed in range(NUM_TRIALS)) / NUM_TRIALS


def test_arithmetic_takes_the_ends_together() -> None:
    one, two = Estimate(1, 2, 4), Estimate(10, 10, 20)
    assert one + two == Estimate(11, 12, 24)
    assert one * two == Estimate(10, 20, 80)
    assert one * 3 == Estimate(3, 6, 12)
    assert two.at_most(Estimate.exactly(11)) == Estimate(10, 10, 11)
    assert sum_of([]) == NOTHING
    assert 4 in one
    assert 4.1 not in one
    with pytest.raises(AssertionError):
        Estimate(2, 1, 3)


@pytest.mark.parametrize("num_sampled", [5, 30, 200])
@pytest.mark.parametrize(
    "draw",
    [lambda rng: rng.gauss(400, 80), lambda rng: rng.lognormvariate(5, 0.5), lambda rng: rng.choice((20.0, 300.0))],
)
def test_totals_of_samples(draw: Draw, num_sampled: int) -> None:
    def holds(rng: random.Random) -> bool:
        rows = [max(1.0, draw(rng)) for _ in range(400)]
        return sum(rows) in total_of(rng.sample(rows, num_sampled), len(rows))

    assert 0.84 <= coverage(holds) <= 0.97


def test_a_whole_sample_is_exact() -> None:
    assert total_of([3.0, 5.0], 2) == Estimate.exactly(8.0)
    assert distinct_of([1, 2, 1], 4, 4) == Estimate.exactly(3)
    endless = distinct_of([1, 1], 2, 10**20)
    assert endless.low == 2
    assert endless.expected == endless.high


def test_one_row_gives_a_wide_range() -> None:
    found = total_of([10.0], 100)
    assert found.low == 10.0
    assert found.expected == 1000.0
    assert found.high > 4000.0


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 1.0])
def test_shares(share: float) -> None:
    found = coverage(lambda rng: share in share_of(sum(rng.random() < share for _ in range(60)), 60))
    assert found >= 0.85
    assert share_of(0, 0) == Estimate(0.0, 0.5, 1.0)
    assert share_of(0, 60).high == pytest.approx(0.043, abs=0.001)


def zipf(rng: random.Random) -> int:
    return int(rng.paretovariate(1.0))


@pytest.mark.parametrize("num_sampled", [50, 200, 500])
@pytest.mark.parametrize(
    "value",
    [
        lambda rng: rng.randrange(167),  # six rows of a thousand share a document
        lambda rng: rng.randrange(10**9),  # nothing is shared
        lambda rng: rng.randrange(7),  # seven values in all
        zipf,
    ],
)
def test_distinct_values(value: Callable[[random.Random], int], num_sampled: int) -> None:
    def holds(rng: random.Random) -> bool:
        rows = [value(rng) for _ in range(1000)]
        seen = Counter(rng.sample(rows, num_sampled))
        return len(set(rows)) in distinct_of(seen.values(), num_sampled, len(rows))

    assert coverage(holds) >= 0.9


def test_distinct_values_in_groups_of_equal_size_are_expected_closely() -> None:
    errors = []
    for seed in range(50):
        rng = random.Random(seed)
        rows = [number // 6 for number in range(1002)]
        found = distinct_of(Counter(rng.sample(rows, 200)).values(), 200, len(rows))
        errors.append(abs(found.expected / 167 - 1))
    assert sum(errors) / len(errors) < 0.1
