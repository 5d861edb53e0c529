"""Arrival processes: the times at which the rows of a live load come.

Owns how they are written, and the times. Equal seeds give equal times.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from math import inf
from typing import Literal, get_args

from sundog.errors import ConfigError, suggest

ProcessKind = Literal["poisson", "even", "ramp"]
MIN_RATE_PER_S, MAX_RATE_PER_S = 1e-6, 1e6
KINDS: tuple[ProcessKind, ...] = get_args(ProcessKind)
FORMS = "poisson:5/s, even:5/s, even:5/s:600s or ramp:0.05/s..10/s:600s"
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_WRITTEN = re.compile(
    rf"(?P<kind>[a-z]+):(?P<rate>{_NUMBER})/s(?:\.\.(?P<last>{_NUMBER})/s)?(?::(?P<duration>{_NUMBER})s)?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class ArrivalProcess:
    """A live load without an answer's influence on what comes next (an open loop).

    >>> list(ArrivalProcess("even", 2.0, 2.0, 1.5).times_s())
    [0.0, 0.5, 1.0]
    """

    kind: ProcessKind
    #: Arrivals a second; of a ramp, at its begin.
    rate_per_s: float
    #: Arrivals a second at the end of a ramp, else the same.
    last_rate_per_s: float
    #: Nothing comes from then on; infinite where only the rows end it.
    duration_s: float = inf

    def times_s(self, seed: int = 0) -> Iterator[float]:
        """Yield when each arrival is, in seconds from the begin, in order; without end where the duration has none."""
        match self.kind:
            case "poisson":
                yield from self._random(random.Random(seed))
            case "even":
                # Multiples, because sums of many small times drift.
                for number in count():
                    if (time_s := number / self.rate_per_s) >= self.duration_s:
                        return
                    yield time_s
            case "ramp":
                yield from self._ramp()

    def _random(self, chance: random.Random) -> Iterator[float]:
        time_s = chance.expovariate(self.rate_per_s)
        while time_s < self.duration_s:
            yield time_s
            time_s += chance.expovariate(self.rate_per_s)

    def _ramp(self) -> Iterator[float]:
        """Yield the ticks of a rate that grows linearly: each is followed by the next after 1 / rate, as Halo's load
        (its `ramp_load`) has it."""
        time_s = 0.0
        while time_s < self.duration_s:
            yield time_s
            share = time_s / self.duration_s
            time_s += 1 / (self.rate_per_s + (self.last_rate_per_s - self.rate_per_s) * share)


def read_process(text: str) -> ArrivalProcess:
    """Return the process that `text` says; ConfigError for any other form."""
    where = f"--arrivals {text}"
    hint = f"as in {FORMS}"
    match = _WRITTEN.fullmatch(text)
    if match is None:
        raise ConfigError("neither a trace file nor an arrival process", where=where, hint=hint)
    kind = next((one for one in KINDS if one == match["kind"]), None)
    if kind is None:
        raise ConfigError(f"unknown arrival process '{match['kind']}'", where=where, hint=suggest(match["kind"], KINDS))
    if (kind == "ramp") != (match["last"] is not None):
        what = "a ramp has two rates" if kind == "ramp" else f"'{kind}' has one rate"
        raise ConfigError(what, where=where, hint=hint)
    if kind == "ramp" and match["duration"] is None:
        raise ConfigError("a ramp has a duration", where=where, hint=hint)
    rate, duration_s = float(match["rate"]), float(match["duration"] or inf)
    last = float(match["last"] or rate)
    if not all(MIN_RATE_PER_S <= one <= MAX_RATE_PER_S for one in (rate, last)):
        raise ConfigError(f"a rate is a number from {MIN_RATE_PER_S:g} to {MAX_RATE_PER_S:g}", where=where, hint=hint)
    if match["duration"] is not None and not 0 < duration_s < inf:
        raise ConfigError("a duration is a number of seconds above 0", where=where, hint=hint)
    return ArrivalProcess(kind, rate, last, duration_s)
