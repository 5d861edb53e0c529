"""Calls that wait for their next attempt: how many, how long and for whom, for whoever watches the run.

Owns these facts and their words. Never decides to wait; the core does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sundog.errors import CallError

MAX_SPAN_S = 1e6 * 86_400


@dataclass(frozen=True, slots=True)
class Wait:
    """Calls that wait for their next attempt."""

    num_calls: int
    #: The longest of their waits, in seconds.
    wait_s: float
    #: The engine, database or host that they are for.
    target: str
    #: A sentence that says how the last attempt failed.
    cause: str
    #: The other side named the time, as with `Retry-After`; else it is a back-off.
    is_asked_for: bool
    #: They wait for a server, of which there is none now; `cause` says where one may come from.
    is_for_server: bool = False


@dataclass(frozen=True, slots=True)
class _Delay:
    pool: str
    wait_s: float
    failure: CallError


class Waits:
    """The calls of one process that wait now, by request. `label_of`: gives what users call a pool."""

    def __init__(self, label_of: Callable[[str], str] = str) -> None:
        self._label_of = label_of
        self._delays: dict[str, _Delay] = {}
        self._lacks: dict[str, Wait] = {}

    def begin(self, request_id: str, pool: str, wait_s: float, failure: CallError) -> None:
        self._delays[request_id] = _Delay(pool, wait_s, failure)

    def end(self, request_id: str) -> None:
        self._delays.pop(request_id, None)

    def lack(self, pool: str, num_calls: int, wait_s: float, source: str) -> None:
        """Note that calls of a pool wait for a server. `source`: where one may come from."""
        self._lacks[pool] = Wait(
            num_calls, wait_s, self._label_of(pool), source, is_asked_for=False, is_for_server=True
        )

    def end_lack(self, pool: str) -> None:
        self._lacks.pop(pool, None)

    def by_pool(self) -> tuple[Wait, ...]:
        """Return one entry for each pool, with the longest wait and what that call was told; and those that wait for a
        server."""
        by_pool: dict[str, list[_Delay]] = {}
        for delay in self._delays.values():
            by_pool.setdefault(delay.pool, []).append(delay)
        return (*(_summary(self._label_of(pool), delays) for pool, delays in by_pool.items()), *self._lacks.values())


def _summary(target: str, delays: Sequence[_Delay]) -> Wait:
    longest = max(delays, key=lambda delay: delay.wait_s)
    is_asked_for = longest.failure.retry_after_s is not None
    return Wait(len(delays), longest.wait_s, target, longest.failure.what, is_asked_for)


def span(seconds: float) -> str:
    """Return a time as 0.5 s, 40 s, 10 min, 2 hours, 1,000 days; what is no number, or has no end, in words."""
    if not seconds < MAX_SPAN_S:
        return "more than a million days"
    for unit, length_s in (("days", 86_400), ("hours", 3_600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{round(seconds / length_s):,} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
