"""A run's event logs as Chrome Trace Event JSON, for Perfetto and chrome://tracing.

Owns the form of the trace. A log holds events only; which replica took which attempt is found by replaying them
through a scheduler core with the policy set that acted. Memory grows with the requests in flight, not with the logs.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from sundog.host.event_log import read_log
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
from sundog.sched.policy import POLICIES, PolicySet

TraceRecord = dict[str, Any]
WORKERS = "workers"
_COUNTERS = re.compile(r"\[\d+\]|\.\d+(?=/)")


def write_trace(logs: Iterable[Path], file: BinaryIO) -> None:
    """Write the logs of one run, oldest first, one after another on the time axis; one event a line."""
    file.write(b'{"displayTimeUnit":"ms","traceEvents":[')
    separator = "\n"
    for record in trace_records(logs):
        file.write((separator + json.dumps(record, separators=(",", ":"))).encode())
        separator = ",\n"
    file.write(b"\n]}\n")


def trace_records(logs: Iterable[Path]) -> Iterator[TraceRecord]:
    """Trace events: a process per pool, a thread per slot of a replica, a slice per attempt; a process for the workers,
    a thread each, a slice per load."""
    lanes = _Lanes()
    begin_s = 0.0
    for number, path in enumerate(logs, start=1):
        log = read_log(path)
        if log is None:
            continue
        header, events = log
        name = f"process {number} of the run began at {header.started_at}"
        yield {"ph": "i", "s": "g", "name": name, "pid": 0, "tid": 0, "ts": _microseconds(begin_s)}
        replay = _Replay(POLICIES.get(header.policy), begin_s, lanes)
        for event in events:
            yield from replay.handle(event)
        yield from replay.cut_off()
        begin_s = replay.last_s


class _Lanes:
    """The (process, thread) of the trace that stands for each slot; the same in all logs of a run."""

    def __init__(self) -> None:
        self._pids: dict[str, int] = {}
        self._tids: dict[tuple[str, int], int] = {}

    def place(self, pool: str, replica_id: str, slot: int) -> tuple[int, int, list[TraceRecord]]:
        """Return the slot's pid and tid, and the records that name them if they are new."""
        named: list[TraceRecord] = []
        if pool not in self._pids:
            self._pids[pool] = len(self._pids) + 1
            named.append(_name("process_name", self._pids[pool], 0, pool))
        pid = self._pids[pool]
        if (replica_id, slot) not in self._tids:
            self._tids[replica_id, slot] = len(self._tids) + 1
            named.append(_name("thread_name", pid, self._tids[replica_id, slot], f"{replica_id} slot {slot}"))
        return pid, self._tids[replica_id, slot], named


@dataclass(slots=True)
class _Attempt:
    """One attempt of a request, on its way."""

    replica_id: str
    slot: int
    #: Its process and thread in the trace.
    lane: tuple[int, int]
    number: int
    begin_s: float
    prefill_end_s: float | None = None


@dataclass(slots=True)
class _Request:
    """One request on its way."""

    arrived: RequestArrived
    #: The time since which it waits for its next attempt.
    queued_s: float
    attempt: _Attempt | None = None


@dataclass(slots=True)
class _Slots:
    """Free slots of one replica; the lowest is taken first, so that lanes stay few."""

    free: list[int] = field(default_factory=list)
    num_made: int = 0

    def take(self) -> int:
        if self.free:
            return heapq.heappop(self.free)
        self.num_made += 1
        return self.num_made

    def give_back(self, slot: int) -> None:
        heapq.heappush(self.free, slot)


class _Replay:
    """One process's log; `begin_s` is where its time 0 stands in the trace."""

    def __init__(self, policies: PolicySet, begin_s: float, lanes: _Lanes) -> None:
        self._core = SchedulerCore(policies)
        self._begin_s = begin_s
        self._lanes = lanes
        self._slots: dict[str, _Slots] = {}
        self._requests: dict[str, _Request] = {}
        self._loads_s: dict[str, float] = {}
        self.last_s = begin_s

    def handle(self, event: Event) -> Iterator[TraceRecord]:
        """Yield the records of what `event` ends; then the core's decisions are taken note of."""
        self.last_s = self._begin_s + event.time_s
        match event:
            case ReplicaAdded():
                self._slots[event.replica_id] = _Slots()
                if event.worker_id is not None:
                    yield from self._end_load(event.worker_id, event.pool, "loaded")
            case LoadFailed():
                yield from self._end_load(event.worker_id, event.pool, "failed")
            case RequestArrived():
                self._requests[event.request_id] = _Request(event, self.last_s)
            case PrefillEnded():
                attempt = self._requests[event.request_id].attempt
                assert attempt is not None, f"{event.request_id} is not running"
                attempt.prefill_end_s = self.last_s
            case RequestFinished():
                tokens = {
                    "prompt_tokens": event.num_prompt_tokens,
                    "cached_tokens": event.num_cached_tokens,
                    "output_tokens": event.num_output_tokens,
                }
                more = tokens if event.num_calls == 1 else {**tokens, "calls": event.num_calls}
                yield from self._end(self._requests.pop(event.request_id), "finished", more)
            case RequestFailed():
                yield from self._end(self._requests[event.request_id], "failed", {"retryable": event.retryable})
            case RequestCancelled():
                yield from self._end(self._requests.pop(event.request_id), "cancelled", {})
        for action in self._core.handle(event):
            match action:
                case Submit():
                    yield from self._begin(self._requests[action.request_id], action)
                case GiveUp():
                    del self._requests[action.request_id]
                case Load():
                    self._loads_s[action.worker_id] = self.last_s

    def cut_off(self) -> Iterator[TraceRecord]:
        """Yield the attempts that the log's end finds running: the process was killed."""
        for request in self._requests.values():
            yield from self._end(request, "cut off", {})

    def _end_load(self, worker_id: str, pool: str, ending: str) -> Iterator[TraceRecord]:
        pid, tid, named = self._lanes.place(WORKERS, worker_id, 1)
        yield from named
        args = {"ending": ending}
        yield _slice(f"load {pool}", (pid, tid), self._loads_s.pop(worker_id), self.last_s, args)

    def _begin(self, request: _Request, action: Submit) -> Iterator[TraceRecord]:
        slot = self._slots[action.replica_id].take()
        pid, tid, named = self._lanes.place(request.arrived.pool, action.replica_id, slot)
        yield from named
        request.attempt = _Attempt(action.replica_id, slot, (pid, tid), action.attempt, self.last_s)

    def _end(self, request: _Request, ending: str, more: TraceRecord) -> Iterator[TraceRecord]:
        """Yield the slice of the attempt that ends now, if one runs, with its prefill and decode inside it."""
        attempt, arrived = request.attempt, request.arrived
        if attempt is None:
            return
        self._slots[attempt.replica_id].give_back(attempt.slot)
        path = arrived.request_id.partition("/")[2]
        args = {"row": arrived.workflow_order, "step": path, "attempt": attempt.number, "ending": ending, **more}
        args["queue_ms"] = round((attempt.begin_s - request.queued_s) * 1e3, 3)
        yield _slice(_COUNTERS.sub("", path), attempt.lane, attempt.begin_s, self.last_s, args)
        if attempt.prefill_end_s is not None:
            yield _slice("prefill", attempt.lane, attempt.begin_s, attempt.prefill_end_s, {})
            yield _slice("decode", attempt.lane, attempt.prefill_end_s, self.last_s, {})
        request.attempt, request.queued_s = None, self.last_s


def _slice(name: str, lane: tuple[int, int], begin_s: float, end_s: float, args: TraceRecord) -> TraceRecord:
    pid, tid = lane
    begin = _microseconds(begin_s)
    duration = round(_microseconds(end_s) - begin, 3)
    return {"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": begin, "dur": duration, "args": args}


def _name(kind: str, pid: int, tid: int, name: str) -> TraceRecord:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}


def _microseconds(time_s: float) -> float:
    return round(time_s * 1e6, 3)
