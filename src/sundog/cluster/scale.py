"""The number of engines that a run on many machines asks for: enough for the wished finish, and no more at its tail.

Owns the engines that a run has and how each stands. Never starts or ends one: actions ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any


@dataclass(frozen=True, slots=True)
class WorkEstimated:
    """The work that is left was estimated anew, by the cost model as measured figures correct it. Told each second."""

    time_s: float
    #: The seconds that one engine would take for all of it, 0 or more.
    engine_seconds: float
    #: Calls that run, wait or are still to come, as expected. They bound what engines can do at once.
    num_calls: int


@dataclass(frozen=True, slots=True)
class EngineStarted:
    """An engine that was asked for serves a cell."""

    engine: str


@dataclass(frozen=True, slots=True)
class EngineIdled:
    """An engine has no call, and its cell has none for it. It is the first one to be given back."""

    engine: str


@dataclass(frozen=True, slots=True)
class EngineUsed:
    """An engine that was idle has a call."""

    engine: str


@dataclass(frozen=True, slots=True)
class EngineNoticed:
    """The machine of an engine will be taken away soon."""

    engine: str


@dataclass(frozen=True, slots=True)
class EngineGone:
    """An engine has ended: it was drained, or it was lost."""

    engine: str


ScaleEvent = WorkEstimated | EngineStarted | EngineIdled | EngineUsed | EngineNoticed | EngineGone


@dataclass(frozen=True, slots=True)
class SetTarget:
    """Ask for this many engines, those that are there and do not drain included. It takes away none of them: only
    DrainEngine does."""

    num_engines: int


@dataclass(frozen=True, slots=True)
class DrainEngine:
    """Let an engine take no further call, and end it when its last one has ended. Its cell moves what waits there."""

    engine: str


ScaleAction = SetTarget | DrainEngine


@dataclass(frozen=True, slots=True)
class ScaleBounds:
    """The wishes of a run."""

    #: Engines at least, while there is work, and at most: 0 <= min_engines <= max_engines.
    min_engines: int
    max_engines: int
    #: The time at which the run should have ended, on the driver's clock.
    finish_s: float
    #: Calls that one engine runs at once, 1 or more.
    num_slots: int


def engine_target(bounds: ScaleBounds, event: WorkEstimated) -> int:
    """Return the engines that end the work in time, within the bounds; all that are allowed where the time has passed.
    More engines than the calls that are left can fill are no use, so that the target falls at the tail."""
    if event.num_calls == 0:
        return 0
    left_s = bounds.finish_s - event.time_s
    in_time = ceil(event.engine_seconds / left_s) if left_s > 0 else bounds.max_engines
    filled = ceil(event.num_calls / bounds.num_slots)
    return min(bounds.max_engines, max(bounds.min_engines, 1, min(in_time, filled)))


class ScaleBook:
    """One instance asks for all engines of one run."""

    def __init__(self, bounds: ScaleBounds) -> None:
        self._bounds = bounds
        self._target = 0
        #: The engines that serve, each with whether it is idle, in the order in which they came.
        self._serving: dict[str, bool] = {}
        #: The engines that have come or gone at some time; a name is used once.
        self._known: set[str] = set()
        self._handlers: dict[type, Callable[[Any], Iterator[ScaleAction]]] = {
            WorkEstimated: self._estimated,
            EngineStarted: self._started,
            EngineIdled: self._use_changed,
            EngineUsed: self._use_changed,
            EngineNoticed: self._noticed,
            EngineGone: self._gone,
        }

    def handle(self, event: ScaleEvent) -> list[ScaleAction]:
        """Return what is to be asked for now that this has happened. Words about unknown engines, and words said twice,
        change nothing."""
        return list(self._handlers[type(event)](event))

    def _estimated(self, event: WorkEstimated) -> Iterator[ScaleAction]:
        target = engine_target(self._bounds, event)
        if target != self._target:
            self._target = target
            yield SetTarget(target)
        yield from self._shrink()

    def _started(self, event: EngineStarted) -> Iterator[ScaleAction]:
        if event.engine not in self._known:
            self._known.add(event.engine)
            self._serving[event.engine] = False
        yield from ()

    def _use_changed(self, event: EngineIdled | EngineUsed) -> Iterator[ScaleAction]:
        if event.engine in self._serving:
            self._serving[event.engine] = isinstance(event, EngineIdled)
            yield from self._shrink()

    def _noticed(self, event: EngineNoticed) -> Iterator[ScaleAction]:
        if event.engine in self._serving:
            yield self._drain(event.engine)
            yield SetTarget(self._target)

    def _gone(self, event: EngineGone) -> Iterator[ScaleAction]:
        self._known.add(event.engine)
        if self._serving.pop(event.engine, None) is not None:
            yield SetTarget(self._target)

    def _shrink(self) -> Iterator[ScaleAction]:
        """Give back idle engines above the target, the youngest first. One with calls is not taken from them."""
        num_above = len(self._serving) - self._target
        idle = [engine for engine, is_idle in self._serving.items() if is_idle]
        for engine in idle[::-1][: max(0, num_above)]:
            yield self._drain(engine)

    def _drain(self, engine: str) -> DrainEngine:
        del self._serving[engine]
        return DrainEngine(engine)
