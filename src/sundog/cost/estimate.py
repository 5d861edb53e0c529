"""Estimates with a range, their arithmetic, and how a sample of rows becomes one.

Owns the meaning of a range: nine in ten times the truth lies between `low` and `high`. Adding and multiplying take the
ends together, as if all errors went the same way: ranges of sums are wide rather than wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

CONFIDENCE = 0.9
_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


@dataclass(frozen=True, slots=True)
class Estimate:
    """0 <= low <= expected <= high."""

    low: float
    expected: float
    high: float

    def __post_init__(self) -> None:
        assert 0.0 <= self.low <= self.expected <= self.high, f"no range: {self}"

    @classmethod
    def exactly(cls, value: float) -> Estimate:
        return cls(value, value, value)

    @classmethod
    def around(cls, expected: float, margin: float, *, low: float = 0.0, high: float = float("inf")) -> Estimate:
        """Return `expected` plus or minus `margin`, but not beyond what is known for certain."""
        expected = min(max(expected, low), high)
        return cls(max(low, expected - margin), expected, min(high, expected + margin))

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def __mul__(self, other: Estimate | float) -> Estimate:
        by = other if isinstance(other, Estimate) else Estimate.exactly(other)
        return Estimate(self.low * by.low, self.expected * by.expected, self.high * by.high)

    def at_most(self, other: Estimate) -> Estimate:
        """Return the smaller of the two, end by end."""
        ends = (self.low, other.low), (self.expected, other.expected), (self.high, other.high)
        return Estimate(*(min(pair) for pair in ends))

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


NOTHING = Estimate.exactly(0.0)


def sum_of(estimates: Iterable[Estimate]) -> Estimate:
    return sum(estimates, NOTHING)


def total_of(sampled: Sequence[float], num_rows: int) -> Estimate:
    """Return the sum over `num_rows` rows of something that is `sampled` for some of them, chosen at random (at least
    one).

    The range is Student's, with the correction for samples that are a good part of the whole; the sampled rows
    themselves are certain. One row alone tells no spread: its own size is taken.
    """
    num_sampled = len(sampled)
    assert 0 < num_sampled <= num_rows, "a sample has rows of the input"
    mean = fmean(sampled)
    spread = stdev(sampled) if num_sampled > 1 else mean
    error = spread * (1 / num_sampled - 1 / num_rows) ** 0.5
    return Estimate.around(mean * num_rows, _student(num_sampled) * error * num_rows, low=sum(sampled))


def share_of(num_true: int, num_judged: int) -> Estimate:
    """Return the probability of something that happened `num_true` times of `num_judged`: Wilson's interval. Nothing
    was judged: anything from 0 to 1."""
    assert 0 <= num_true <= num_judged
    if num_judged == 0:
        return Estimate(0.0, 0.5, 1.0)
    share, square = num_true / num_judged, _Z**2 / num_judged
    centre = (share + square / 2) / (1 + square)
    margin = _Z * ((share * (1 - share) + square / 4) / num_judged) ** 0.5 / (1 + square)
    return Estimate(max(0.0, min(centre - margin, share)), share, min(1.0, max(centre + margin, share)))


def distinct_of(rows_by_value: Iterable[int], num_sampled: int, num_rows: int) -> Estimate:
    """Return how many distinct values `num_rows` rows hold, from how many of `num_sampled` rows chosen at random hold
    each value seen. A row may hold several values.

    Expected: Duj1 (Haas and Stokes, JASA 1998; PostgreSQL's ANALYZE uses it). Low: the values seen. High: the upper
    bound of GEE (Charikar, Chaudhuri, Motwani, Narasayya, PODS 2000), every value seen once stands for as many as there
    are rows for each sampled one, and the sampling error of that.
    """
    assert 0 < num_sampled <= num_rows, "a sample has rows of the input"
    counts = list(rows_by_value)
    if not counts:
        return NOTHING
    num_seen, num_once, fraction = len(counts), counts.count(1), num_sampled / num_rows
    once_in_all = (num_once + _Z * (num_once * (1 - fraction)) ** 0.5) / fraction
    # No row that was not sampled can bring more than it holds.
    high = min(num_seen - num_once + once_in_all, num_seen + sum(counts) * (1 / fraction - 1))
    known = 1 - (1 - fraction) * num_once / sum(counts)
    # Rounding leaves 0 where the sample is as nothing beside the whole and has no value twice.
    expected = num_seen / known if known > 0 else high
    return Estimate(num_seen, min(max(expected, num_seen), high), high)


def _student(num_sampled: int) -> float:
    """Return the quantile of Student's t for CONFIDENCE, by its expansion in 1/degrees of freedom."""
    freedom = max(1, num_sampled - 1)
    return _Z + (_Z**3 + _Z) / (4 * freedom) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * freedom**2)
