"""The trace of a run: what a viewer would show, from logs that are written as runs write them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sundog.host.event_log import EventLog, read_log
from sundog.host.trace import write_trace
from sundog.sched.events import (
    Event,
    PrefillEnded,
    ReplicaAdded,
    RequestArrived,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    TimerFired,
)

POOL = "engine:local"
REPLICA = ReplicaAdded(0.0, "local/0", POOL, 2)


def arrived(time_s: float, request_id: str, workflow_order: int) -> RequestArrived:
    return RequestArrived(time_s, request_id, POOL, workflow_order, max_attempts=3)


def write_log(folder: Path, events: Sequence[Event]) -> Path:
    log = EventLog(folder, "fcfs", 8)
    for event in events:
        log.append(event)
    log.close()
    return log.path


def trace(*logs: Path) -> list[dict[str, Any]]:
    text = io.BytesIO()
    write_trace(logs, text)
    records: list[dict[str, Any]] = json.loads(text.getvalue())["traceEvents"]
    return records


def slices(records: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """(name, lane, begin, end) of every slice, in seconds."""
    return [
        (one["name"], one["tid"], one["ts"] / 1e6, (one["ts"] + one["dur"]) / 1e6)
        for one in records
        if one["ph"] == "X"
    ]


def test_slots_are_lanes_and_queueing_is_told(tmp_path: Path) -> None:
    events: list[Event] = [
        REPLICA,
        arrived(1, "0/a", 0),
        arrived(1, "1/a", 1),
        arrived(2, "2/each[7]", 2),
        PrefillEnded(3, "0/a"),
        RequestFinished(4, "0/a", 100, 60, 9),
        RequestFinished(5, "1/a"),
        RequestFinished(6, "2/each[7]"),
    ]
    records = trace(write_log(tmp_path, events))
    assert slices(records) == [
        ("a", 1, 1.0, 4.0),
        ("prefill", 1, 1.0, 3.0),
        ("decode", 1, 3.0, 4.0),
        ("a", 2, 1.0, 5.0),
        ("each", 1, 4.0, 6.0),
    ]
    args = [one["args"] for one in records if one["ph"] == "X"]
    assert (args[0]["prompt_tokens"], args[0]["cached_tokens"]) == (100, 60)
    assert (args[4]["row"], args[4]["step"], args[4]["queue_ms"]) == (2, "each[7]", 2000.0)
    names = {one["args"]["name"] for one in records if one["ph"] == "M"}
    assert names == {POOL, "local/0 slot 1", "local/0 slot 2"}


def test_every_attempt_is_a_slice(tmp_path: Path) -> None:
    events: list[Event] = [
        REPLICA,
        arrived(1, "0/a", 0),
        RequestFailed(2, "0/a", retryable=True),
        TimerFired(5),
        RequestFailed(6, "0/a", retryable=False),
    ]
    found = [one for one in trace(write_log(tmp_path, events)) if one["ph"] == "X"]
    assert slices(found) == [("a", 1, 1.0, 2.0), ("a", 1, 5.0, 6.0)]
    assert [(one["args"]["attempt"], one["args"]["ending"]) for one in found] == [(1, "failed"), (2, "failed")]
    assert [one["args"]["queue_ms"] for one in found] == [0.0, 3000.0]


def test_what_was_cancelled_or_killed_ends_where_it_was_seen_last(tmp_path: Path) -> None:
    events: list[Event] = [
        REPLICA,
        arrived(1, "0/loop.2/a", 0),
        arrived(1, "1/a", 1),
        arrived(2, "2/waiting", 2),
        RequestCancelled(3, "1/a"),
        RequestCancelled(4, "2/waiting"),
    ]
    found = [one for one in trace(write_log(tmp_path, events)) if one["ph"] == "X"]
    assert [(one["name"], one["args"]["ending"]) for one in found] == [
        ("a", "cancelled"),
        ("waiting", "cancelled"),
        ("loop/a", "cut off"),
    ]
    assert slices(found)[-1] == ("loop/a", 1, 1.0, 4.0)


def test_processes_of_one_run_follow_each_other_on_the_same_lanes(tmp_path: Path) -> None:
    events: list[Event] = [REPLICA, arrived(1, "0/a", 0), RequestFinished(2, "0/a")]
    logs = [write_log(tmp_path, events), write_log(tmp_path, events)]
    records = trace(*logs)
    assert slices(records) == [("a", 1, 1.0, 2.0), ("a", 1, 3.0, 4.0)]
    assert [one["ts"] for one in records if one["ph"] == "i"] == [0.0, 2e6]


def test_a_log_torn_anywhere_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    events: list[Event] = [REPLICA, arrived(1, "0/a", 0), RequestFinished(2, "0/a")]
    whole = write_log(tmp_path, events).read_bytes()
    torn = tmp_path / "torn.gz"
    lengths: set[int | None] = set()
    for size in range(len(whole) + 1):
        torn.write_bytes(whole[:size])
        log = read_log(torn)
        found = None if log is None else list(log[1])
        assert found is None or found == events[: len(found)]
        lengths.add(None if found is None else len(found))
        trace(torn)
    assert lengths == {None, 0, 1, 2, 3}


@pytest.mark.parametrize("number", [0, 3000])
def test_a_trace_is_json_whatever_its_length(tmp_path: Path, number: int) -> None:
    events: list[Event] = [REPLICA]
    for row in range(number):
        events += [arrived(row, f"{row}/a", row), RequestFinished(row, f"{row}/a")]
    assert len(slices(trace(write_log(tmp_path, events)))) == number
