"""The engines that a run on many machines starts and ends as it needs them, joined to what really starts them.

Owns the estimate of what is left, and which deed follows a decision of cluster.scale. Never starts a process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from sundog.cluster.scale import (
    DrainEngine,
    EngineGone,
    EngineIdled,
    EngineNoticed,
    EngineStarted,
    EngineUsed,
    ScaleBook,
    ScaleBounds,
    ScaleEvent,
    SetTarget,
    WorkEstimated,
)
from sundog.servers.replica_watch import ReplicaFound, ReplicaLeaving, ReplicaNews, ReplicaVanished, ReplicaWatch

MIN_MEASURED_CALLS = 20
"""From so many ended calls on, what they took counts in place of the plan's estimate."""


class EngineStarter(ReplicaWatch, Protocol):
    """This class starts and ends servers of one engine, and tells of them: found once they serve, leaving where their
    machine will be taken away, vanished once they have ended."""

    def want(self, num_engines: int) -> None:
        """Have so many servers, those that run and do not leave included: start what is missing, and start nothing
        that is wanted no more. It ends none."""
        ...

    def end(self, base_url: str) -> None:
        """End a server, on which nothing runs."""
        ...


@dataclass(frozen=True, slots=True)
class WorkLeft:
    """The point that a run has come to, for one engine."""

    #: Rows that have ended, and those that have not.
    num_rows_ended: int
    num_rows_left: int
    #: Calls of the engine that have ended, and the seconds that they took, summed.
    num_calls_ended: int
    calls_s: float


@dataclass(frozen=True, slots=True)
class PlannedCalls:
    """The estimate of the cost model before anything was measured."""

    #: Calls of the engine for each row, 0 or more.
    calls_per_row: float
    #: Seconds of one call while all places of the engine are taken.
    call_s: float


def work_estimated(time_s: float, left: WorkLeft, planned: PlannedCalls, num_slots: int) -> WorkEstimated:
    """Return the seconds that one engine of `num_slots` places would take for what is left: as the plan expects, and as
    measured once enough calls have ended. Rows under way count whole."""
    calls_per_row, call_s = planned.calls_per_row, planned.call_s
    if left.num_calls_ended >= MIN_MEASURED_CALLS:
        call_s = left.calls_s / left.num_calls_ended
        if left.num_rows_ended:
            calls_per_row = left.num_calls_ended / left.num_rows_ended
    num_calls = left.num_rows_left * calls_per_row
    # A call that is still to come counts, however seldom rows make one.
    return WorkEstimated(time_s, num_calls * call_s / num_slots, max(round(num_calls), int(num_calls > 0)))


class EngineScaling:
    """This class has as many engines as the wished finish needs. It is the watch of the pool, so that whoever hands
    servers to cells hears of them here."""

    def __init__(self, starter: EngineStarter, bounds: ScaleBounds) -> None:
        self._starter = starter
        self._book = ScaleBook(bounds)
        self._heard: asyncio.Queue[ReplicaNews] = asyncio.Queue()
        #: Calls that run or wait on each server, as cells told last.
        self._num_calls: dict[str, int] = {}
        #: Servers that take nothing more and are ended once nothing runs there.
        self._draining: set[str] = set()
        self._found: set[str] = set()

    @property
    def urls(self) -> Collection[str]:
        """Return the servers that have been found and have not vanished."""
        return self._found

    def estimated(self, event: WorkEstimated) -> None:
        """Hear what is left to do, each second."""
        self._take(event)

    def used(self, num_calls: dict[str, int]) -> None:
        """Hear how many calls run or wait on each server, over all cells that use it."""
        for url, number in num_calls.items():
            before = self._num_calls.get(url)
            self._num_calls[url] = number
            if (before == 0) != (number == 0) or before is None:
                kind = EngineUsed if number else EngineIdled
                self._take(kind(url))
            if number == 0 and url in self._draining:
                self._draining.discard(url)
                self._starter.end(url)

    async def watch(self) -> AsyncGenerator[ReplicaNews, None]:
        """Yield what happens to servers, and those that are drained as leaving."""
        listening = asyncio.ensure_future(self._listen())
        try:
            while True:
                getting = asyncio.ensure_future(self._heard.get())
                await asyncio.wait([getting, listening], return_when=asyncio.FIRST_COMPLETED)
                if not getting.done():
                    getting.cancel()
                    listening.result()
                    return
                yield getting.result()
        finally:
            listening.cancel()

    async def _listen(self) -> None:
        async with aclosing(self._starter.watch()) as news:
            async for one in news:
                self._hear(one)

    def _hear(self, news: ReplicaNews) -> None:
        url = news.base_url
        match news:
            case ReplicaFound():
                self._found.add(url)
                self._heard.put_nowait(news)
                self._take(EngineStarted(url))
            case ReplicaLeaving():
                self._take(EngineNoticed(url))
            case ReplicaVanished():
                self._found.discard(url)
                self._draining.discard(url)
                self._num_calls.pop(url, None)
                self._heard.put_nowait(news)
                self._take(EngineGone(url))

    def _take(self, event: ScaleEvent) -> None:
        for action in self._book.handle(event):
            match action:
                case SetTarget(num_engines=number):
                    self._starter.want(number)
                case DrainEngine(engine=url):
                    self._heard.put_nowait(ReplicaLeaving(url))
                    if self._num_calls.get(url) == 0:
                        self._starter.end(url)
                    else:
                        self._draining.add(url)
