"""The replay of a log: which replica took which attempt in the process that wrote it, and when.

A log holds events only; a scheduler core with the policy set that acted decides again what it decided then. Owns the
requests and loads on their way; memory grows with them, not with the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sundog.sched.core import SchedulerCore
from sundog.sched.events import (
    Event,
    GiveUp,
    Load,
    LoadFailed,
    PrefillEnded,
    ReplicaAdded,
    RequestArrived,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    Submit,
)
from sundog.sched.policy import PolicySet


@dataclass(slots=True)
class LoggedAttempt:
    """One attempt of a request; times in seconds of its log."""

    replica_id: str
    #: From 1.
    number: int
    begin_s: float
    prefill_end_s: float | None = None


@dataclass(slots=True)
class LoggedRequest:
    """One request on its way."""

    arrived: RequestArrived
    #: The time since which it waits for its next attempt.
    queued_s: float
    attempt: LoggedAttempt | None = None


@dataclass(frozen=True, slots=True)
class AttemptBegan:
    """An attempt started; `request.attempt` is it."""

    request: LoggedRequest


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """An attempt ended."""

    request: LoggedRequest
    attempt: LoggedAttempt
    end_s: float
    #: The event that ended it; None where the log's end cuts it off.
    event: RequestFinished | RequestFailed | RequestCancelled | None


@dataclass(frozen=True, slots=True)
class LoadEnded:
    """A worker has loaded an engine, or failed to."""

    worker_id: str
    pool: str
    begin_s: float
    end_s: float
    is_loaded: bool


LogStep = AttemptBegan | AttemptEnded | LoadEnded


class LogReplay:
    """One process's log, event by event."""

    def __init__(self, policies: PolicySet) -> None:
        self.last_s = 0.0
        self._core = SchedulerCore(policies)
        self._requests: dict[str, LoggedRequest] = {}
        self._loads_s: dict[str, float] = {}

    def handle(self, event: Event) -> Iterator[LogStep]:
        """Yield what `event` ends, and then what begins by the core's decision. To be exhausted before the next one."""
        self.last_s = event.time_s
        match event:
            case ReplicaAdded(worker_id=str(worker_id)):
                yield self._load_ended(worker_id, event.pool, is_loaded=True)
            case LoadFailed():
                yield self._load_ended(event.worker_id, event.pool, is_loaded=False)
            case RequestArrived():
                self._requests[event.request_id] = LoggedRequest(event, event.time_s)
            case PrefillEnded():
                attempt = self._requests[event.request_id].attempt
                assert attempt is not None, f"{event.request_id} is not running"
                attempt.prefill_end_s = event.time_s
            case RequestFinished() | RequestCancelled():
                yield from self._end(self._requests.pop(event.request_id), event)
            case RequestFailed():
                yield from self._end(self._requests[event.request_id], event)
        for action in self._core.handle(event):
            match action:
                case Submit():
                    request = self._requests[action.request_id]
                    request.attempt = LoggedAttempt(action.replica_id, action.attempt, event.time_s)
                    yield AttemptBegan(request)
                case GiveUp():
                    del self._requests[action.request_id]
                case Load():
                    self._loads_s[action.worker_id] = event.time_s

    def cut_off(self) -> Iterator[AttemptEnded]:
        """Yield the attempts that the log's end finds running: the process was killed."""
        for request in self._requests.values():
            yield from self._end(request, None)

    def _load_ended(self, worker_id: str, pool: str, *, is_loaded: bool) -> LoadEnded:
        return LoadEnded(worker_id, pool, self._loads_s.pop(worker_id), self.last_s, is_loaded)

    def _end(
        self, request: LoggedRequest, event: RequestFinished | RequestFailed | RequestCancelled | None
    ) -> Iterator[AttemptEnded]:
        """Yield the end of the attempt that runs, if one does."""
        attempt = request.attempt
        if attempt is not None:
            yield AttemptEnded(request, attempt, self.last_s, event)
            request.attempt, request.queued_s = None, self.last_s
