"""The course of one load: when each request came and when its last step ended, and the figures made of that.

Owns rates and percentiles.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf

WINDOW_S = 15.0
"""The window of Halo's output rate."""
LOOK_SHARE = 1 / 6
"""A share of the duration."""
GROWTH = 0.05
"""A load is sustained while the requests that have not ended grow by no more than that share of those that come, and
one."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One request. `end_s`: infinite where it had not ended when the run was stopped."""

    time_s: float
    end_s: float

    @property
    def latency_s(self) -> float:
        return self.end_s - self.time_s


def peak_per_s(answered: Sequence[Answered]) -> float:
    """Return the largest rate of ends over WINDOW_S."""
    ends_s = sorted(one.end_s for one in answered if one.end_s < inf)
    most = 0
    for number, end_s in enumerate(ends_s):
        most = max(most, bisect_right(ends_s, end_s + WINDOW_S) - number)
    return most / WINDOW_S


def ended_per_s(answered: Sequence[Answered], begin_s: float, end_s: float) -> float:
    """Return the rate of ends between two moments."""
    return sum(begin_s < one.end_s <= end_s for one in answered) / (end_s - begin_s)


def is_sustained(answered: Sequence[Answered], duration_s: float) -> bool:
    """Return whether the number of requests that have not ended stays: its mean over the last LOOK_SHARE against that
    over as long, half of the duration before."""
    look_s = LOOK_SHARE * duration_s
    last_s, first_s = duration_s - look_s, duration_s / 2 - look_s
    num_come = sum(first_s < one.time_s <= last_s for one in answered)
    growth = mean_open(answered, last_s, last_s + look_s) - mean_open(answered, first_s, first_s + look_s)
    return growth <= 1 + GROWTH * num_come


def mean_open(answered: Sequence[Answered], begin_s: float, end_s: float) -> float:
    """Return how many requests have come and not ended, in the mean of the time between two moments."""
    open_s = sum(max(0.0, min(one.end_s, end_s) - max(one.time_s, begin_s)) for one in answered)
    return open_s / (end_s - begin_s)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of the values that at least that share of them does not exceed; NaN of none."""
    if not values:
        return float("nan")
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]
