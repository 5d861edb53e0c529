"""The rows of an input that a user takes.

Owns the choice, which is the same for the same rows wherever it is made. Never reads any.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RowChoice:
    """The rows of the input that a run takes: the first `limit`, and of these `sample`, chosen by `seed`."""

    #: At least 1; None takes all.
    limit: int | None = None
    #: At least 1; None takes all.
    sample: int | None = None
    seed: int = 0

    def identity(self) -> dict[str, Any]:
        """Return what makes another run of a flow, as JSON types."""
        sample = None if self.sample is None else [self.sample, self.seed]
        return {"limit": self.limit, "sample": sample}

    def num_candidates(self, num_rows: int) -> int:
        """Return how many rows, the first ones, a sample is taken from."""
        return num_rows if self.limit is None else min(num_rows, self.limit)

    def chosen(self, num_candidates: int) -> frozenset[int] | None:
        """Return the numbers of the rows in the sample; None for all candidates."""
        if self.sample is None or self.sample >= num_candidates:
            return None
        return frozenset(random.Random(self.seed).sample(range(num_candidates), self.sample))
