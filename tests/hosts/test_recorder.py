"""The recorder: one record of each attempt, and the time of replicas and pools divided among steps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.engines.base import Usage
from sundog.errors import EngineUnavailable
from sundog.host.attempt import Attempt, Success
from sundog.host.driver import Driver
from sundog.host.recorder import Recorder
from sundog.host.virtual_loop import run_virtually
from sundog.sched.catalog import FCFS
from sundog.sched.core import SchedulerCore
from sundog.sched.events import ReplicaAdded, RequestArrived, Submit
from sundog.sched.facts import CallFacts

Span = tuple[str, str, int, int]
"""Replica, step, and the seconds at which the attempt begins and ends."""


def request(step: str, *, pool: str = "p", flow: str = "f") -> RequestArrived:
    return RequestArrived(0.0, step, pool, max_attempts=3, facts=CallFacts(flow, step))


def recorded(*spans: Span) -> tuple[Recorder, list[Attempt]]:
    """All spans in the order of time; an end comes before a start of the same moment."""
    heard: list[Attempt] = []
    recorder = Recorder(heard.append)
    moments = [(begin, 1, number) for number, (*_, begin, _) in enumerate(spans)]
    moments += [(end, 0 if end > spans[number][2] else 2, number) for number, (*_, end) in enumerate(spans)]
    running = {}
    for time_s, kind, number in sorted(moments):
        replica_id, step, *_ = spans[number]
        if kind == 1:
            running[number] = recorder.begin(request(step), replica_id, float(time_s))
        else:
            recorder.end(running.pop(number), float(time_s), "succeeded", Success(None))
    return recorder, heard


def test_each_moment_is_divided_among_the_attempts_that_run() -> None:
    recorder, _ = recorded(("0", "a", 0, 7), ("0", "b", 2, 5), ("0", "b", 2, 8), ("0", "a", 20, 21))
    seconds = {step: totals.pool_s for step, totals in recorder.steps("f").items()}
    assert seconds == pytest.approx({"a": 2 + 1 + 1 + 1, "b": 2 + 1 + 1})


def test_calls_side_by_side_share_the_replica() -> None:
    recorder, _ = recorded(*[("0", "a", 0, 1)] * 4, *[("0", "a", 6, 7)] * 4)
    assert recorder.steps("f")["a"].replica_s == pytest.approx(2.0)
    assert recorder.steps("f")["a"].num_attempts == 8


def test_two_replicas_are_counted_each_for_itself() -> None:
    """A call that is alone on a replica takes all of it, however many run beside it on another."""
    recorder, _ = recorded(("0", "a", 0, 6), ("1", "b", 0, 6), ("1", "b", 0, 6))
    totals = recorder.steps("f")
    assert {step: one.replica_s for step, one in totals.items()} == pytest.approx({"a": 6.0, "b": 6.0})
    assert {step: one.pool_s for step, one in totals.items()} == pytest.approx({"a": 3.0, "b": 3.0})


def test_flows_are_told_apart() -> None:
    recorder = Recorder()
    for flow in ("f", "g"):
        recorder.end(recorder.begin(request("a", flow=flow), "0", 0.0), 1.0, "failed")
    assert recorder.steps("f")["a"].num_attempts == 1
    assert recorder.steps("h") == {}


@given(
    st.lists(
        st.tuples(st.sampled_from("01"), st.sampled_from("abc"), st.integers(0, 9), st.integers(0, 9)).map(
            lambda span: (span[0], span[1], min(span[2:]), max(span[2:]))
        ),
        min_size=1,
        max_size=12,
    )
)
def test_shares_are_those_of_every_moment(spans: Sequence[Span]) -> None:
    """Against the definition: every second of a replica, divided among those who run in it."""
    recorder, heard = recorded(*spans)
    due = dict.fromkeys("abc", 0.0)
    busy = set()
    for replica_id in "01":
        for begin, end in pairwise(range(11)):
            there = [step for replica, step, *span in spans if replica == replica_id and span[0] <= begin < span[1]]
            busy |= {begin} if there else set()
            for step in there:
                due[step] += (end - begin) / len(there)
    totals = recorder.steps("f")
    assert {step: one.replica_s for step, one in totals.items()} == pytest.approx({step: due[step] for step in totals})
    assert sum(one.pool_s for one in totals.values()) == pytest.approx(len(busy))
    assert sum(attempt.share_s for attempt in heard) == pytest.approx(sum(due.values()))


def test_every_attempt_of_the_driver_has_a_record() -> None:
    heard: list[Attempt] = []

    async def attempt(submit: Submit) -> Success[str]:
        await asyncio.sleep(2)
        if submit.attempt == 1:
            raise EngineUnavailable("not yet", retryable=True)
        return Success("done", Usage(10, 3, 4), num_calls=5, num_answered=4)

    async def main() -> None:
        driver = Driver(SchedulerCore(FCFS), lambda event: None, recorder=Recorder(heard.append))
        driver.tell(ReplicaAdded(0.0, "p/0", "p", 1))
        assert await driver.run(request("a"), attempt) == "done"
        leaving = asyncio.ensure_future(driver.run(request("b"), attempt))
        await asyncio.sleep(1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)

    run_virtually(main())
    assert [one.outcome for one in heard] == ["failed", "succeeded", "cancelled"]
    failed, succeeded, cancelled = heard
    assert (failed.num_answered, failed.usage) == (0, None)
    assert succeeded[:4] == ("p", "p/0", "f", "a")
    assert succeeded[8:] == (Usage(10, 3, 4), 5, 4, 0, 0.0, None, "")
    assert str(failed.failure) == "not yet"
    assert succeeded.call_s == pytest.approx(2.0 / 5)
    assert cancelled.ended_s - cancelled.began_s == pytest.approx(1.0)


def test_nothing_starts_once_the_driver_stops() -> None:
    """The core has said that it may start, but the task has not heard of that yet."""
    heard: list[Attempt] = []

    async def never(submit: Submit) -> Success[None]:
        raise AssertionError("it stops")

    async def main() -> None:
        driver = Driver(SchedulerCore(FCFS), lambda event: None, recorder=Recorder(heard.append))
        driver.tell(ReplicaAdded(0.0, "p/0", "p", 1))
        asking = asyncio.ensure_future(driver.run(request("a"), never))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(driver.stop)
        (given_up,) = await asyncio.gather(asking, return_exceptions=True)
        assert str(given_up) == "draining"

    run_virtually(main())
    assert heard == []
