"""The time that rows and requests of a simulation take, from when they come to when they end.

Owns the distributions. They are kept in buckets, so that memory does not grow with the load.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sundog.cost.history import Histogram


@dataclass(slots=True)
class RequestTimes:
    """The moments of one request on its way, in seconds from the begin."""

    arrival_s: float
    #: Its first attempt starts.
    begin_s: float | None = None
    #: None where its engine has no tokens.
    first_token_s: float | None = None


@dataclass(slots=True)
class RequestLatencies:
    """The times that the requests of one pool took, in seconds from their arrivals."""

    #: To the end.
    total_s: Histogram = field(default_factory=Histogram)
    #: To the start of the first attempt.
    wait_s: Histogram = field(default_factory=Histogram)
    #: To the first token, where the pool has any.
    first_token_s: Histogram = field(default_factory=Histogram)


@dataclass(slots=True)
class Latencies:
    """The times that rows and requests took which have ended; quantiles are within 2.5 %."""

    #: From a row's begin, or where no window holds it back from when it comes, to its end.
    row_s: Histogram = field(default_factory=Histogram)
    pools: dict[str, RequestLatencies] = field(default_factory=dict)

    def add(self, pool: str, times: RequestTimes, end_s: float) -> None:
        """Count a request that has succeeded."""
        known = self.pools.get(pool)
        if known is None:
            known = self.pools[pool] = RequestLatencies()
        known.total_s.add(end_s - times.arrival_s)
        if times.begin_s is not None:
            known.wait_s.add(times.begin_s - times.arrival_s)
        if times.first_token_s is not None:
            known.first_token_s.add(times.first_token_s - times.arrival_s)
