"""The driver of the scheduler core on an event loop: it reports events and performs actions, and decides nothing.

Owns waiters, timers, loads under way and the event log's order. Never knows what a request computes, or for whom.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from sundog.errors import CallError
from sundog.host.attempt import RunAttempt, Success
from sundog.host.recorder import Recorder, RunningAttempt
from sundog.host.waits import Waits
from sundog.sched.books.pool import Pool
from sundog.sched.core import SchedulerCore
from sundog.sched.events import (
    Abort,
    Draining,
    Event,
    GiveUp,
    Load,
    LoadFailed,
    PoolClosed,
    PrefillEnded,
    ReplicaAdded,
    ReplicaLost,
    ReplicaRemoved,
    RequestArrived,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    Submit,
    TimerFired,
    Unload,
    WakeAt,
    Why,
    WorkflowLeft,
)
from sundog.sched.views import RequestView

T = TypeVar("T")


class Loader(Protocol):
    """This class loads and closes engines. `load` gives the replica, at time 0, or raises why there is none; `unload`
    closes one that runs nothing."""

    async def load(self, worker_id: str, pool: str) -> ReplicaAdded: ...
    async def unload(self, replica_id: str) -> None: ...


class GivenUp(Exception):
    """Raised where a request will have no further attempt; caught by the dispatcher, which says so in the words of a
    call.

    `failure` is that of its last attempt, None where it had none. `cause` tells why its pool has no replica, for the
    whys `lost` and `unloadable`.
    """

    def __init__(self, why: Why, failure: CallError | None, cause: Exception | None) -> None:
        super().__init__(why)
        self.why = why
        self.failure = failure
        self.cause = cause


class LoadingStopped(Exception):
    """Raised where an engine is to be loaded and the driver stops; caught in this module, and known to the dispatcher
    as the cause of a GivenUp."""


class _Waiter:
    """This class tells a request what the core wants. `failure` is that of its last attempt."""

    __slots__ = ("failure", "next", "pool")

    def __init__(self, pool: str, following: asyncio.Future[Submit | GiveUp]) -> None:
        self.pool = pool
        self.next = following
        self.failure: CallError | None = None

    def tell(self, action: Submit | GiveUp) -> None:
        """Give the request its next action; one at a time."""
        if not self.next.done():
            self.next.set_result(action)


class Driver:
    """Runs requests through one core on the running loop. `log` sees every event, in order. `loader`: None where no
    worker loads engines and no replica drains. `recorder`: keeps what attempts take. `waits`: calls that wait for
    their next attempt."""

    def __init__(
        self,
        core: SchedulerCore,
        log: Callable[[Event], None],
        loader: Loader | None = None,
        recorder: Recorder | None = None,
        waits: Waits | None = None,
    ) -> None:
        self.recorder = Recorder() if recorder is None else recorder
        self.waits = Waits() if waits is None else waits
        self._core = core
        self._log = log
        self._loader = loader
        self._loads: set[asyncio.Task[None]] = set()
        self._unloads: set[asyncio.Task[None]] = set()
        self._load_errors: dict[str, Exception] = {}
        self._lost: dict[str, Exception] = {}
        self._is_stopping = False
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time()
        self._waiters: dict[str, _Waiter] = {}
        self._between_calls: dict[str, str] = {}
        self._arrivals: list[RequestArrived] = []

    @property
    def is_stopping(self) -> bool:
        """Return whether no further attempt starts."""
        return self._is_stopping

    @property
    def pools(self) -> Mapping[str, Pool]:
        """Return the core's books on each pool, to be read alone."""
        return self._core.pools

    @property
    def requests(self) -> Mapping[str, RequestView]:
        """Return the requests that have not ended, by id, to be read alone."""
        return self._core.requests

    def now_s(self) -> float:
        """Return the seconds since this driver began."""
        return self._loop.time() - self._start_s

    def tell(self, event: Event) -> None:
        """Report what is no request's: replicas, workers, plans, drained steps."""
        self._handle(event)

    def lose(self, replica_id: str, pool: str, why: Exception, *, is_last: bool) -> None:
        """A replica will not come back. `why` is the cause for all that waits for the pool's last one."""
        if is_last:
            self._lost[pool] = why
        self._handle(ReplicaLost(self.now_s(), replica_id))

    def lose_pool(self, pool: str, why: Exception) -> None:
        """No replica has come to a pool for too long: what waits there is given up, and `why` is the cause."""
        self._lost[pool] = why
        self._handle(PoolClosed(self.now_s(), pool, is_lost=True))

    def stop(self) -> None:
        """Start no further attempt and load no further engine; what runs goes on. Loads under way, and what waits for
        an engine or for its next attempt, are given up."""
        self._is_stopping = True
        self._handle(Draining(self.now_s()))
        for task in self._loads:
            task.cancel()

    async def close(self) -> None:
        """Load nothing more; engines on their way out are let go."""
        for task in self._loads:
            task.cancel()
        await asyncio.gather(*self._loads, *self._unloads, return_exceptions=True)

    async def run(self, arrived: RequestArrived, attempt: RunAttempt[T]) -> T:
        """Run `attempt` when and where the core says, again if it says so; GivenUp when it says no more."""
        request_id = arrived.request_id
        waiter = self._waiters[request_id] = _Waiter(arrived.pool, self._loop.create_future())
        is_given_up = False
        try:
            self._arrive(arrived)
            while True:
                action = await waiter.next
                if waiter.failure is not None:
                    self.waits.end(request_id)
                if isinstance(action, GiveUp):
                    is_given_up = True
                    raise GivenUp(action.why, waiter.failure, self._cause(action.why, arrived.pool))
                if self._is_stopping:
                    raise GivenUp("draining", waiter.failure, None)
                running = self.recorder.begin(arrived, action.replica_id, self.now_s())
                try:
                    success = await attempt(action)
                except CallError as error:
                    self._failed(waiter, running, action, error)
                    continue
                except BaseException:
                    self.recorder.end(running, self.now_s(), "cancelled")
                    raise
                self._succeeded(arrived, running, success)
                return success.result
        except BaseException:
            if not is_given_up:
                self._handle(RequestCancelled(self.now_s(), request_id))
            raise
        finally:
            del self._waiters[request_id]
            if waiter.failure is not None:
                self.waits.end(request_id)

    def _failed(self, waiter: _Waiter, running: RunningAttempt, submit: Submit, error: CallError) -> None:
        """The core hears of the failure, and its answer may be there at once."""
        error.num_attempts = submit.attempt
        waiter.failure = error
        waiter.next = self._loop.create_future()
        ended_s = self.now_s()
        self.recorder.end(running, ended_s, "failed", failure=error)
        self._handle(RequestFailed(ended_s, submit.request_id, error.retryable, error.retry_after_s))

    def _succeeded(self, arrived: RequestArrived, running: RunningAttempt, success: Success[Any]) -> None:
        ended_s, usage = self.now_s(), success.usage
        self.recorder.end(running, ended_s, "succeeded", success)
        tokens = (0, 0, 0)
        if usage is not None:
            tokens = usage.num_prompt_tokens, usage.num_cached_tokens or 0, usage.num_output_tokens
        self._handle(RequestFinished(ended_s, arrived.request_id, *tokens, success.num_calls))
        if arrived.has_successor:
            self._between_calls[arrived.workflow_id] = arrived.pool

    def _arrive(self, arrived: RequestArrived) -> None:
        """Tell it with all others of this turn of the loop: which of them starts first must not depend on who spoke
        first."""
        if not self._arrivals:
            self._loop.call_soon(self._flush)
        self._arrivals.append(arrived)

    def _flush(self) -> None:
        arrivals, self._arrivals = self._arrivals, []
        now_s = self.now_s()
        # None of them can have been cancelled: a task learns of that in a later turn than this.
        for arrived in arrivals:
            if self._between_calls.get(arrived.workflow_id) == arrived.pool:
                del self._between_calls[arrived.workflow_id]
            arrived.time_s = now_s
            arrived.more_follow = arrived is not arrivals[-1]
            self._handle(arrived)

    def workflow_left(self, workflow_id: str) -> None:
        """The workflow's next call was answered without an engine, or there is none."""
        pool = self._between_calls.pop(workflow_id, None)
        if pool is not None:
            self._handle(WorkflowLeft(self.now_s(), pool, workflow_id))

    def prefill_ended(self, request_id: str) -> None:
        self._handle(PrefillEnded(self.now_s(), request_id))

    def _cause(self, why: Why, pool: str) -> Exception | None:
        return {"lost": self._lost, "unloadable": self._load_errors}.get(why, {}).get(pool)

    async def _load(self, action: Load) -> None:
        try:
            replica = await self._loaded(action)
        except Exception as error:  # whoever needs the engine raises it, bugs too
            self._load_errors[action.pool] = error
            is_retryable = isinstance(error, CallError) and error.retryable
            self._handle(LoadFailed(self.now_s(), action.worker_id, action.pool, is_retryable))
        else:
            self._handle(replace(replica, time_s=self.now_s()))

    async def _loaded(self, action: Load) -> ReplicaAdded:
        assert self._loader is not None, "no workers, no loads"
        try:
            if not self._is_stopping:
                return await self._loader.load(action.worker_id, action.pool)
        except asyncio.CancelledError:
            if not self._is_stopping:
                raise
        raise LoadingStopped

    async def _unload(self, action: Unload) -> None:
        assert self._loader is not None, "only a loader closes what has drained"
        await self._loader.unload(action.replica_id)
        self._handle(ReplicaRemoved(self.now_s(), action.replica_id))

    def _spawn(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
        task = self._loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _handle(self, event: Event) -> None:
        self._log(event)
        for action in self._core.handle(event):
            match action:
                case Submit() | GiveUp():
                    self._waiters[action.request_id].tell(action)
                case WakeAt():
                    self._note_wait(action, event.time_s)
                    self._loop.call_at(self._start_s + action.time_s, self._wake, action.time_s)
                case Load():
                    self._spawn(self._load(action), self._loads)
                case Unload():
                    self._spawn(self._unload(action), self._unloads)
                case Abort():
                    """The attempt was cancelled with its task, before the core was told."""

    def _note_wait(self, action: WakeAt, now_s: float) -> None:
        if action.request_id is None:
            return
        waiter = self._waiters[action.request_id]
        assert waiter.failure is not None, "only a failed attempt is followed by a wait"
        self.waits.begin(action.request_id, waiter.pool, action.time_s - now_s, waiter.failure)

    def _wake(self, time_s: float) -> None:
        # The loop's clock may fire a timer a clock tick early; the core must not see time run backwards.
        self._handle(TimerFired(max(time_s, self.now_s())))
