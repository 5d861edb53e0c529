"""The correlation of turns done and turns left: do programs that have done many have few left?

Owns the sums. Continuum (arXiv 2511.02230) weighs retention by it.
"""

from __future__ import annotations

from math import sqrt

UNKNOWN = -1.0
MIN_PAIRS = 3


class TurnCounts:
    """Each program of n turns gives the pairs (done, left) after each of its turns."""

    def __init__(self) -> None:
        self._num_pairs = self._done = self._left = self._done_done = self._left_left = self._done_left = 0

    def add(self, num_turns: int) -> None:
        """Add a program that has ended after `num_turns` turns."""
        for done in range(1, num_turns + 1):
            left = num_turns - done
            self._num_pairs += 1
            self._done += done
            self._left += left
            self._done_done += done * done
            self._left_left += left * left
            self._done_left += done * left

    @property
    def correlation(self) -> float:
        """The correlation, in [-1, 1]; -1 until there are programs that differ."""
        n = self._num_pairs
        spread = (n * self._done_done - self._done**2) * (n * self._left_left - self._left**2)
        if n < MIN_PAIRS or spread <= 0:
            return UNKNOWN
        return (n * self._done_left - self._done * self._left) / sqrt(spread)
