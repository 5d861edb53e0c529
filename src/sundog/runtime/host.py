"""The asyncio host of the scheduler core: reports events, performs actions, decides nothing.

Owns waiters, timers and the event log's order. Never knows what a request computes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sundog.errors import CallError
from sundog.sched.core import SchedulerCore
from sundog.sched.events import (
    Abort,
    Event,
    GiveUp,
    PrefillEnded,
    ReplicaAdded,
    RequestArrived,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    Submit,
    TimerFired,
    WakeAt,
)

T = TypeVar("T")
Attempt = Callable[[Submit], Awaitable[tuple[T, RequestFinished]]]


class _Waiter:
    """Where a request learns what the core wants: at once when it is known, else when it comes."""

    __slots__ = ("_future", "_next")

    def __init__(self) -> None:
        self._next: Submit | GiveUp | None = None
        self._future: asyncio.Future[Submit | GiveUp] | None = None

    def tell(self, action: Submit | GiveUp) -> None:
        if self._future is not None:
            if not self._future.done():
                self._future.set_result(action)
        else:
            self._next = action

    async def next(self) -> Submit | GiveUp:
        action, self._next = self._next, None
        if action is None:
            self._future = asyncio.get_running_loop().create_future()
            action = await self._future
            self._future = None
        return action


class Host:
    """Runs requests through one core on the running loop. `log` sees every event, in order."""

    def __init__(self, core: SchedulerCore, log: Callable[[Event], None]) -> None:
        self._core = core
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time()
        self._waiters: dict[str, _Waiter] = {}

    def now_s(self) -> float:
        """Seconds since this host began."""
        return self._loop.time() - self._start_s

    def add_replica(self, replica: ReplicaAdded) -> None:
        self._handle(replica)

    async def run(self, arrived: RequestArrived, attempt: Attempt[T]) -> T:
        """Run `attempt` when and where the core says, again if it says so; CallError when it gives up."""
        request_id = arrived.request_id
        waiter = self._waiters[request_id] = _Waiter()
        failure: CallError | None = None
        try:
            self._handle(arrived)
            while True:
                action = await waiter.next()
                if isinstance(action, GiveUp):
                    assert failure is not None, f"{request_id} was given up without a failure"
                    raise failure
                try:
                    result, finished = await attempt(action)
                except CallError as error:
                    failure = error
                    failure.num_attempts = action.attempt
                    self._handle(RequestFailed(self.now_s(), request_id, error.retryable, error.retry_after_s))
                    continue
                self._handle(finished)
                return result
        except BaseException as error:
            if error is not failure:
                self._handle(RequestCancelled(self.now_s(), request_id))
            raise
        finally:
            del self._waiters[request_id]

    def prefill_ended(self, request_id: str) -> None:
        self._handle(PrefillEnded(self.now_s(), request_id))

    def _handle(self, event: Event) -> None:
        self._log(event)
        for action in self._core.handle(event):
            match action:
                case Submit() | GiveUp():
                    self._waiters[action.request_id].tell(action)
                case WakeAt():
                    self._loop.call_at(self._start_s + action.time_s, self._wake, action.time_s)
                case Abort():
                    """The attempt was cancelled with its task, before the core was told."""

    def _wake(self, time_s: float) -> None:
        # The loop's clock may fire a timer a clock tick early; the core must not see time run backwards.
        self._handle(TimerFired(max(time_s, self.now_s())))
