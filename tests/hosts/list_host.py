"""The smallest host: requests from a list, replicas that come and go, no rows, no plan, no event loop."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from itertools import count

from sundog.sched.core import SchedulerCore
from sundog.sched.events import (
    Abort,
    Action,
    Event,
    GiveUp,
    PoolOpened,
    ReplicaDraining,
    ReplicaRemoved,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    Submit,
    TimerFired,
    Unload,
    WakeAt,
)
from tests.hosts.conformance import Replica, Scripted


class ListHost:
    """Events by time; what the core asks for becomes events to come."""

    def __init__(self, core: SchedulerCore, replicas: Sequence[Replica], load: Sequence[Scripted]) -> None:
        self.ended: dict[str, str] = {}
        self._core = core
        self._load = {one.name: one for one in load}
        self._numbers = count()
        self._events: list[tuple[float, int, Event]] = []
        self._running: dict[str, int] = {}
        self._add(PoolOpened(0.0, "p"))
        for replica in replicas:
            self._add(replica.added())
            if replica.until_s is not None:
                self._add(ReplicaDraining(replica.until_s, replica.name))
        self._add_load(load)

    def _add_load(self, load: Sequence[Scripted]) -> None:
        in_order = sorted(load, key=lambda one: one.at_s)
        for one, following in zip(in_order, [*in_order[1:], None], strict=True):
            arrived = one.arrived()
            arrived.more_follow = following is not None and following.at_s == one.at_s
            self._add(arrived)
            if one.leaves_s is not None:
                self._add(RequestCancelled(one.leaves_s, one.name))

    def run(self) -> dict[str, str]:
        while self._events:
            _, _, event = heapq.heappop(self._events)
            if self._is_due(event):
                for action in self._core.handle(event):
                    self._perform(action, event.time_s)
        return self.ended

    def _is_due(self, event: Event) -> bool:
        """An end that was foreseen may have become untrue: the request was cancelled meanwhile, or has ended."""
        match event:
            case RequestCancelled():
                if event.request_id in self.ended:
                    return False
                self.ended[event.request_id] = "cancelled"
                self._running.pop(event.request_id, None)
            case RequestFinished() | RequestFailed():
                if self._running.pop(event.request_id, None) is None:
                    return False
                if isinstance(event, RequestFinished):
                    self.ended[event.request_id] = "finished"
        return True

    def _perform(self, action: Action, now_s: float) -> None:
        match action:
            case Submit():
                self._running[action.request_id] = action.attempt
                takes_s, ending = self._load[action.request_id].attempt(action.attempt)
                if ending == "finished":
                    self._add(RequestFinished(now_s + takes_s, action.request_id))
                else:
                    self._add(RequestFailed(now_s + takes_s, action.request_id, ending == "retryable"))
            case GiveUp():
                self.ended[action.request_id] = action.why
            case WakeAt():
                self._add(TimerFired(action.time_s))
            case Unload():
                self._add(ReplicaRemoved(now_s, action.replica_id))
            case Abort():
                """What ran has left the list of what runs already."""

    def _add(self, event: Event) -> None:
        heapq.heappush(self._events, (event.time_s, next(self._numbers), event))
