"""A run's event logs as Chrome Trace Event JSON, for Perfetto and chrome://tracing.

Owns the form of the trace; what happened is found by `log_replay`. Memory grows with the requests in flight, not with
the logs.
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
from sundog.host.log_replay import AttemptBegan, AttemptEnded, LoadEnded, LoggedRequest, LogReplay, LogStep
from sundog.sched.events import RequestCancelled, RequestFailed, RequestFinished
from sundog.sched.policy import POLICIES

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
        replay, records = LogReplay(POLICIES.get(header.policy)), _Records(begin_s, lanes)
        for event in events:
            for step in replay.handle(event):
                yield from records.of(step)
        for ended in replay.cut_off():
            yield from records.of(ended)
        begin_s += replay.last_s


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


class _Records:
    """The records of one process's log; `begin_s` is where its time 0 stands in the trace."""

    def __init__(self, begin_s: float, lanes: _Lanes) -> None:
        self._begin_s = begin_s
        self._lanes = lanes
        self._slots: dict[str, _Slots] = {}
        #: By request that runs, its slot with the process and thread that stand for it.
        self._places: dict[str, tuple[int, tuple[int, int]]] = {}

    def of(self, step: LogStep) -> Iterator[TraceRecord]:
        """Yield the records of one step of the replay."""
        match step:
            case AttemptBegan():
                yield from self._begin(step.request)
            case AttemptEnded():
                yield from self._end(step)
            case LoadEnded():
                pid, tid, named = self._lanes.place(WORKERS, step.worker_id, 1)
                yield from named
                args = {"ending": "loaded" if step.is_loaded else "failed"}
                yield self._slice(f"load {step.pool}", (pid, tid), step.begin_s, step.end_s, args)

    def _begin(self, request: LoggedRequest) -> Iterator[TraceRecord]:
        attempt, arrived = request.attempt, request.arrived
        assert attempt is not None, f"{arrived.request_id} is not running"
        slot = self._slots.setdefault(attempt.replica_id, _Slots()).take()
        pid, tid, named = self._lanes.place(arrived.pool, attempt.replica_id, slot)
        yield from named
        self._places[arrived.request_id] = slot, (pid, tid)

    def _end(self, ended: AttemptEnded) -> Iterator[TraceRecord]:
        """Yield the slice of the attempt, with its prefill and decode inside it."""
        attempt, arrived, end_s = ended.attempt, ended.request.arrived, ended.end_s
        slot, lane = self._places.pop(arrived.request_id)
        self._slots[attempt.replica_id].give_back(slot)
        path = arrived.request_id.partition("/")[2]
        args = {"row": arrived.workflow_order, "step": path, "attempt": attempt.number, **_ending(ended.event)}
        args["queue_ms"] = round((attempt.begin_s - ended.request.queued_s) * 1e3, 3)
        yield self._slice(_COUNTERS.sub("", path), lane, attempt.begin_s, end_s, args)
        if attempt.prefill_end_s is not None:
            yield self._slice("prefill", lane, attempt.begin_s, attempt.prefill_end_s, {})
            yield self._slice("decode", lane, attempt.prefill_end_s, end_s, {})

    def _slice(self, name: str, lane: tuple[int, int], begin_s: float, end_s: float, args: TraceRecord) -> TraceRecord:
        pid, tid = lane
        begin = _microseconds(self._begin_s + begin_s)
        duration = round(_microseconds(self._begin_s + end_s) - begin, 3)
        return {"ph": "X", "name": name, "pid": pid, "tid": tid, "ts": begin, "dur": duration, "args": args}


def _ending(event: RequestFinished | RequestFailed | RequestCancelled | None) -> TraceRecord:
    match event:
        case None:
            return {"ending": "cut off"}
        case RequestCancelled():
            return {"ending": "cancelled"}
        case RequestFailed():
            return {"ending": "failed", "retryable": event.retryable}
        case RequestFinished():
            tokens = {
                "prompt_tokens": event.num_prompt_tokens,
                "cached_tokens": event.num_cached_tokens,
                "output_tokens": event.num_output_tokens,
            }
            more = {} if event.num_calls == 1 else {"calls": event.num_calls}
            return {"ending": "finished", **tokens, **more}


def _name(kind: str, pid: int, tid: int, name: str) -> TraceRecord:
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "args": {"name": name}}


def _microseconds(time_s: float) -> float:
    return round(time_s * 1e6, 3)
