"""The event log: what was appended is read back, torn ends included, and replays to the same decisions."""

from __future__ import annotations

from pathlib import Path

import sundog as sd
from sundog.host.event_log import EventLog, read_log
from sundog.sched.catalog import FCFS
from sundog.sched.core import SchedulerCore
from sundog.sched.events import (
    Event,
    PrefillEnded,
    ReplicaAdded,
    RequestArrived,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    Submit,
    TimerFired,
)
from sundog.sched.facts import CallFacts
from tests.execution.fakes import World, plan_of, step


def read_events(path: Path) -> list[Event]:
    read = read_log(path)
    assert read is not None
    return list(read[1])


FACTS = CallFacts("f", "a", tenant="t", deadline_s=3.0)
EVERY_EVENT: list[Event] = [
    ReplicaAdded(0.0, "p/0", "p", 4, None, 9),
    RequestArrived(0.5, "0/a", "p", 0, 1, 10, 20, (1, 2, 3), 2, workflow_id="w", facts=FACTS),
    PrefillEnded(1.0, "0/a"),
    RequestFailed(1.5, "0/a", True, None),
    TimerFired(2.0),
    RequestFinished(2.5, "0/a", 10, 4, 3),
    RequestCancelled(3.0, "1/a"),
]


def test_events_are_read_back_as_they_were(tmp_path: Path) -> None:
    log = EventLog(tmp_path, "fcfs", 8)
    for event in EVERY_EVENT:
        log.append(event)
        log.flush()
    log.close()
    read = read_log(log.path)
    assert read is not None
    header, events = read
    assert header.policy == "fcfs"
    assert list(events) == EVERY_EVENT


def test_each_process_has_its_own_file(tmp_path: Path) -> None:
    for _ in range(2):
        EventLog(tmp_path, "fcfs", 8).close()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["events-0001.jsonl.gz", "events-0002.jsonl.gz"]


def test_a_torn_end_keeps_what_was_flushed_before(tmp_path: Path) -> None:
    log = EventLog(tmp_path, "fcfs", 8)
    for event in EVERY_EVENT:
        log.append(event)
        log.flush()
    log.close()
    whole = log.path.read_bytes()
    for cut in range(len(whole) - 40, len(whole)):
        log.path.write_bytes(whole[:cut])
        events = read_events(log.path)
        assert events == EVERY_EVENT[: len(events)]
        assert len(events) >= len(EVERY_EVENT) - 1


def test_a_run_replays_to_the_same_decisions(tmp_path: Path) -> None:
    """Every decision is the core's: the events alone bring it back."""
    world = World(tmp_path / "state", max_concurrency=2)
    plan = plan_of(step("a", "{{ row.x }}"), step("b", "{{ a }}!"))
    world.run(plan, *({"x": index} for index in range(20)))
    log = EventLog(tmp_path / "log", "fcfs", 8)
    for event in world.events:
        log.append(event)
    log.close()

    def submits(events: list[Event]) -> list[str]:
        core = SchedulerCore(FCFS)
        return [action.request_id for event in events for action in core.handle(event) if isinstance(action, Submit)]

    assert submits(read_events(log.path)) == submits(world.events)
    assert len(submits(world.events)) == 40


def test_a_run_tells_the_core_which_engines_share_a_device(tmp_path: Path) -> None:
    flow = sd.Flow("shared")
    for name, device in {"a": "gpu0", "b": "gpu0", "c": None}.items():
        flow.engine(name, kind="null", shared_device=device)
        flow.llm(f"s{name}", engine=name, prompt="Hello")
    flow.input("rows", rows=[{"x": 1}])
    flow.output(a="{{ sa }}", b="{{ sb }}", c="{{ sc }}")
    flow.run(state=tmp_path)
    (log,) = tmp_path.rglob("events-*.jsonl.gz")
    added = [event for event in read_events(log) if isinstance(event, ReplicaAdded)]
    assert {one.replica_id: one.shared_device for one in added} == {"a/0": "gpu0", "b/0": "gpu0", "c/0": None}
