"""The choice of rows that are taken from a slow cell once no part is free. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from sundog.cluster.lease_events import PartKey

MIN_LEFT = 2
"""A part with fewer rows that have not begun is left to its holder, so that each split leaves a row on either side."""


@dataclass(frozen=True, slots=True)
class Holding:
    """A part in a cell's hands."""

    cell: str
    part: PartKey
    #: The place of the first row that has not begun, and that behind the last one.
    begun: int
    stop: int
    #: The seconds in which the cell will have begun all rows that it holds, inf where it has begun none yet.
    seconds_left: float


def seconds_left(num_left: int, num_begun: int, since_s: float) -> float:
    """Return how long a cell takes for `num_left` rows where it has begun `num_begun` in `since_s` seconds."""
    return num_left * since_s / num_begun if num_begun else inf


def split_of_slowest(holdings: Iterable[Holding]) -> tuple[Holding, int] | None:
    """Return the part of the slowest cell that has most rows left, and the place that halves these; None where no part
    can be split."""
    able = [one for one in holdings if one.stop - one.begun >= MIN_LEFT]
    if not able:
        return None
    chosen = max(able, key=lambda one: (one.seconds_left, one.stop - one.begun, one.part))
    return chosen, chosen.stop - (chosen.stop - chosen.begun) // 2
