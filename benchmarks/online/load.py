"""The load: when requests come, and which query each of them asks.

Owns both, so that every arm gets the same. Nothing here knows who answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from math import sqrt
from random import Random
from typing import Literal

from sundog.sim.arrivals.process import ArrivalProcess

Spacing = Literal["even", "poisson"]
SPACINGS: tuple[Spacing, ...] = ("even", "poisson")
RAMP_BEGIN_PER_S = 0.05
"""Halo's ramp begins so slowly (its `ramp_load`)."""
DURATION_S = 600.0
NUM_QUERIES: dict[str, int | None] = {"halo": 150, "wide": 2048, "none": None}
"""How many different queries there are; None for as many as requests. Halo's client draws from the rows of a data set,
with replacement: of those that it ships templates for, MT-bench has 80 and FineWiki, as it is used, 2,048; its batches
repeat some hundred queries. `halo` is the low end, `wide` the high one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `query`: equal for requests that ask the same."""

    time_s: float
    query: int


@dataclass(frozen=True, slots=True)
class Load:
    """An open loop: nothing waits for an answer before the next one comes. With `is_ramp` the rate grows linearly from
    RAMP_BEGIN_PER_S to `rate_per_s`."""

    spacing: Spacing
    rate_per_s: float
    repetition: str
    is_ramp: bool = False
    duration_s: float = DURATION_S
    seed: int = 0

    def asked(self) -> list[Asked]:
        """Return the requests, in order of time."""
        chance, num_queries = Random(f"queries {self.seed}"), NUM_QUERIES[self.repetition]
        drawn = count() if num_queries is None else iter(lambda: chance.randrange(num_queries), None)
        return [Asked(time_s, query) for time_s, query in zip(self._times_s(), drawn, strict=False)]

    def _times_s(self) -> Iterator[float]:
        if self.is_ramp and self.spacing == "poisson":
            return self._random_ramp()
        if self.is_ramp:
            return ArrivalProcess("ramp", RAMP_BEGIN_PER_S, self.rate_per_s, self.duration_s).times_s()
        return ArrivalProcess(self.spacing, self.rate_per_s, self.rate_per_s, self.duration_s).times_s(self.seed)

    def _random_ramp(self) -> Iterator[float]:
        """Yield the times of a Poisson process of growing rate: those of a process of rate 1, with time stretched."""
        chance, first = Random(f"ramp {self.seed}"), RAMP_BEGIN_PER_S
        growth = (self.rate_per_s - first) / self.duration_s
        num_expected = 0.0
        while True:
            num_expected += chance.expovariate(1.0)
            time_s = (sqrt(first * first + 2 * growth * num_expected) - first) / growth
            if time_s >= self.duration_s:
                return
            yield time_s
