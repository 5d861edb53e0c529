"""Calls that wait together are one request, and nobody downstream can tell."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable, Hashable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sundog.errors import CallError, RunStopped
from sundog.execution.calls import gather
from sundog.execution.calls.call_key import CallIdentity
from sundog.execution.calls.gather import Gatherer, Take
from sundog.execution.calls.guard import CommittedOutcome
from sundog.execution.row_way import RowEnd
from sundog.ir.logical import LogicalPlan
from sundog.ir.physical import CallExec
from sundog.ir.row_ids import RowRef
from sundog.operators.base import BoundCall, CallContext, Outcome
from sundog.sched.catalog import FCFS
from sundog.sched.events import ReplicaAdded, RequestFailed, RequestFinished
from sundog.store.store import Store
from tests.cli.flows import report_of, sundog
from tests.execution.fakes import Behaviour, FakeOperator, FakeSpec, World, fails, plan_of, step
from tests.runtime.part import Part

Answers = Callable[[Sequence[Any]], Sequence[Any]]


class GatheringFake(FakeOperator):
    """Gathers calls whose value begins with the same letter; `answers` says what comes back, None for no answer."""

    def __init__(self, answers: Answers, **behaviours: Behaviour) -> None:
        super().__init__(behaviours=behaviours)
        self.answers = answers
        self.requests: list[list[Any]] = []

    def group_of(self, spec: FakeSpec, call: BoundCall) -> Hashable | None:
        return None if call.payload == "alone" else call.payload[0]

    async def run_gathered(
        self, spec: FakeSpec, calls: Sequence[BoundCall], context: CallContext
    ) -> Sequence[Outcome | None]:
        payloads = [call.payload for call in calls]
        self.requests.append(payloads)
        await asyncio.sleep(0)
        return [None if answer is None else Outcome(answer) for answer in self.answers(payloads)]


def same(payloads: Sequence[Any]) -> Sequence[Any]:
    return payloads


def broken(payloads: Sequence[Any]) -> Sequence[Any]:
    raise CallError("the one request is broken", retryable=True)


PLAN = plan_of(step("a", "{{ row.x }}", is_gathered=True))
ROWS = [{"x": f"a{number}"} for number in range(10)]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.sched.policies.retry.BASE_S", 0.0)


def world(folder: Path, answers: Answers = same, **behaviours: Behaviour) -> World:
    return World(folder, GatheringFake(answers, **behaviours), max_concurrency=1)


def requests(of: World) -> list[list[Any]]:
    assert isinstance(of.operator, GatheringFake)
    return of.operator.requests


def values(ends: Sequence[RowEnd]) -> list[Any]:
    return [json.loads(end.body)["a"] for end in ends]


def test_calls_of_one_moment_are_one_request(tmp_path: Path) -> None:
    here = world(tmp_path)
    assert values(here.run(PLAN, *ROWS)) == [row["x"] for row in ROWS]
    assert requests(here) == [[row["x"] for row in ROWS]]
    assert sum(here.operator.runs.values()) == 0
    assert [event.num_calls for event in here.events if isinstance(event, RequestFinished)] == [10]


def test_equal_calls_still_are_one(tmp_path: Path) -> None:
    here = world(tmp_path)
    assert values(here.run(PLAN, {"x": "a"}, {"x": "b"}, {"x": "a"}, {"x": "alone"})) == ["a", "b", "a", "alone"]
    assert requests(here) == [["a"], ["b"]]
    assert here.operator.runs == {"alone": 1}


def test_a_request_takes_so_many_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "MAX_GATHERED_CALLS", 4)
    here = world(tmp_path)
    assert values(here.run(PLAN, *ROWS)) == [row["x"] for row in ROWS]
    assert [len(calls) for calls in requests(here)] == [4, 4, 2]


def test_calls_that_come_while_the_pool_is_busy_join_those_that_wait(tmp_path: Path) -> None:
    here = world(tmp_path)
    nodes = (step("first", "b{{ row.x }}"), step("a", "{{ first[1:] }}", is_gathered=True))
    ends = here.run(plan_of(*nodes), *ROWS)
    assert values(ends) == [row["x"] for row in ROWS]
    # The first steps end one by one; the first look-up waits behind those of the other rows.
    assert sorted(payload for calls in requests(here) for payload in calls) == [row["x"] for row in ROWS]
    assert len(requests(here)) < len(ROWS)


def test_each_call_is_committed_under_its_own_key(tmp_path: Path) -> None:
    here = world(tmp_path)
    first = here.run(PLAN, *ROWS)
    assert here.run(PLAN, *ROWS) == first
    assert len(requests(here)) == 1
    here.run(plan_of(step("a", "{{ row.x }}")), *ROWS)
    assert sum(here.operator.runs.values()) == 0


def test_a_call_without_an_answer_runs_alone(tmp_path: Path) -> None:
    here = world(tmp_path, lambda payloads: [None if payload == "a3" else payload for payload in payloads])
    assert values(here.run(PLAN, *ROWS)) == [row["x"] for row in ROWS]
    assert here.operator.runs == {"a3": 1}


def ends_of(folder: Path, plan: LogicalPlan, answers: Answers) -> list[RowEnd]:
    return world(folder, answers, a=fails(4, retryable=True)).run(plan, *ROWS)


def test_a_failed_request_decides_nothing(tmp_path: Path) -> None:
    here = world(tmp_path / "a", broken, a=fails(4, retryable=True))
    gathered = here.run(PLAN, *ROWS)
    assert gathered == ends_of(tmp_path / "b", plan_of(step("a", "{{ row.x }}")), same)
    assert [end.state for end in gathered].count("failed") == 0
    assert len(requests(here)) == 1
    assert sum(isinstance(event, RequestFailed) for event in here.events) == 1 + 4


def test_failures_are_those_of_the_calls_alone(tmp_path: Path) -> None:
    def refuse(payload: Any) -> Any:
        raise CallError(f"no {payload}", retryable=True)

    here = world(tmp_path / "a", broken, a=refuse)
    ends = here.run(PLAN, *ROWS)
    assert json.loads(ends[3].body) == {"node": "a", "cause": "CallError: no a3", "attempts": 3}


def test_what_never_pays_is_given_up(tmp_path: Path) -> None:
    requested: list[int] = []

    async def send(node: CallExec, place: CallIdentity, take: Take) -> Sequence[CommittedOutcome | None]:
        requested.append(place.order)
        return [None for _ in take()]

    async def ask_one_after_another() -> None:
        gatherer = Gatherer(send)
        (node,) = world(tmp_path).physical(PLAN).nodes
        assert isinstance(node, CallExec)
        for row in range(6):
            assert await gatherer.ask(node, "group", BoundCall("x"), CallIdentity(RowRef("", (row,)), "a", 0)) is None

    asyncio.run(ask_one_after_another())
    assert requested == [0, 1, 2]


def test_a_run_that_stops_starts_no_request(tmp_path: Path) -> None:
    here = world(tmp_path)

    async def stop_at_once() -> list[Any]:
        store = Store(tmp_path)
        store.open_writer()
        scope: dict[str, Any] = {"run_id": "run-1", "is_fresh": False, "repeats_unknown_effects": False}
        part = Part(here.physical(PLAN), store, FCFS, here.events.append, {"fake": here.operator}, **scope)
        part.driver.tell(ReplicaAdded(0.0, "fake", "fake", 1))
        part.driver.stop()
        ends = await asyncio.gather(*(part.executor.run(RowRef("", (0,)), row) for row in ROWS), return_exceptions=True)
        store.close()
        return ends

    assert [type(end) for end in asyncio.run(stop_at_once())] == [RunStopped] * len(ROWS)
    assert requests(here) == []


LOOKUPS = """
name: lookups
inputs:
  rows: {path: rows.jsonl}
nodes:
  doc:
    sql: {database: "sqlite:///docs.db", query: "select body from doc where id = :id", params: {id: "{{ row.id }}"}}
outputs: {id: "{{ row.id }}", body: "{{ doc[0].body }}"}
"""


def test_a_run_counts_calls_and_its_trace_shows_requests(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(LOOKUPS)
    rows = [*range(40), None, "7", 99]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"id": row}) + "\n" for row in rows))
    with closing(sqlite3.connect(tmp_path / "docs.db")) as connection:
        connection.execute("create table doc (id integer primary key, body text)")
        connection.executemany("insert into doc values (?, ?)", [(number, f"body {number}") for number in range(40)])
        connection.commit()
    outputs, errors = set(), set()
    for options in ("--naive", "--no-rule gather_lookups", ""):
        command = ("run", "flow.yaml", "--json", "--output", "a.jsonl", *options.split())
        report = report_of(sundog(tmp_path, *command))
        assert [node["num_executed"] for node in report["nodes"]] == [43]
        outputs.add((tmp_path / "a.jsonl").read_bytes())
        errors.add((tmp_path / report["errors"]).read_bytes())
    assert (len(outputs), len(errors)) == (1, 1)
    sundog(tmp_path, "trace", report["run_id"], "--output", "trace.json")
    records = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    slices = [record["args"] for record in records if record["ph"] == "X"]
    assert sorted(one.get("calls", 1) for one in slices) == [1, 1, 41]
