"""How many requests a scope may have at once and in a minute.

Owns both counts. Never knows what a request costs: the ledger does.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sundog.ledger.ledger import SpendingScope

MINUTE_S = 60.0
AGAIN_AFTER_S = 1.0
"""The wait that is named where a place becomes free with the end of a request, which nobody can foretell."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The limits of one scope, None for no limit."""

    max_at_once: int | None = None
    max_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class TooManyRequests:
    """The reason why a request was not let in, as `str`, and when to ask again."""

    scope: SpendingScope
    limit: str
    max_number: int
    retry_after_s: float

    def __str__(self) -> str:
        return f"{self.limit} of the {self.scope} is {self.max_number:,}, and so many there are"


@dataclass(slots=True)
class _Counts:
    num_running: int = 0
    #: The times of the last minute's requests, at most `max_per_minute` of them.
    begins_s: deque[float] = field(default_factory=deque)


class RequestGate:
    """This class lets requests in while their scope has room. No 60 seconds see more of them than `max_per_minute`,
    and of no scope are more times kept than those.

    >>> gate, limits = RequestGate(), RequestLimits(max_at_once=1)
    >>> key = SpendingScope("key", "k1")
    >>> gate.enter(key, limits, now_s=0.0) is None
    True
    >>> print(gate.enter(key, limits, now_s=0.5))
    max_at_once of the key 'k1' is 1, and so many there are
    >>> gate.leave(key, now_s=1.0)
    """

    def __init__(self) -> None:
        self._counts: dict[SpendingScope, _Counts] = {}

    def enter(self, scope: SpendingScope, limits: RequestLimits, now_s: float) -> TooManyRequests | None:
        """Count a request that begins, or say why it may not begin now. `leave` must follow each that began."""
        counts = self._counts.get(scope) or _Counts()
        _forget_old(counts, now_s)
        if limits.max_at_once is not None and counts.num_running >= limits.max_at_once:
            return TooManyRequests(scope, "max_at_once", limits.max_at_once, AGAIN_AFTER_S)
        per_minute = limits.max_per_minute
        if per_minute is not None and len(counts.begins_s) >= per_minute:
            after_s = counts.begins_s[-per_minute] + MINUTE_S - now_s if per_minute else MINUTE_S
            return TooManyRequests(scope, "max_per_minute", per_minute, after_s)
        counts.num_running += 1
        if per_minute is not None:
            counts.begins_s.append(now_s)
        self._counts[scope] = counts
        return None

    def leave(self, scope: SpendingScope, now_s: float) -> None:
        """Count a request that has ended."""
        counts = self._counts[scope]
        counts.num_running -= 1
        _forget_old(counts, now_s)
        if not counts.num_running and not counts.begins_s:
            del self._counts[scope]

    def __len__(self) -> int:
        return len(self._counts)


def _forget_old(counts: _Counts, now_s: float) -> None:
    while counts.begins_s and counts.begins_s[0] <= now_s - MINUTE_S:
        counts.begins_s.popleft()
