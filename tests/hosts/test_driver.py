"""The host: what it tells the core, and when."""

from __future__ import annotations

import asyncio

import pytest

from sundog.host.attempt import Success
from sundog.host.driver import Driver
from sundog.sched.catalog import PREFIX_GROUPED
from sundog.sched.core import SchedulerCore
from sundog.sched.events import (
    Event,
    ReplicaAdded,
    RequestArrived,
    RequestCancelled,
    Submit,
    WorkflowLeft,
)


def arrived(request_id: str, workflow_order: int, *, has_successor: bool = False) -> RequestArrived:
    more = {"prefix_key": (workflow_order,), "has_successor": has_successor, "workflow_id": str(workflow_order)}
    return RequestArrived(0.0, request_id, "p", workflow_order, **more)  # type: ignore[arg-type]  # fields by name


def host_of(events: list[Event]) -> Driver:
    host = Driver(SchedulerCore(PREFIX_GROUPED), events.append)
    host.tell(ReplicaAdded(0.0, "p/0", "p", 4, None, 100))
    return host


async def answer(submit: Submit) -> Success[str]:
    return Success(submit.request_id)


def test_calls_of_one_turn_arrive_together() -> None:
    events: list[Event] = []

    async def main() -> None:
        host = host_of(events)
        await asyncio.gather(*(host.run(arrived(name, row), answer) for row, name in enumerate("abc")))

    asyncio.run(main())
    told = [(event.request_id, event.more_follow) for event in events if isinstance(event, RequestArrived)]
    assert told == [("a", True), ("b", True), ("c", False)]


def test_a_call_cancelled_in_its_first_turn_arrives_before_it_goes() -> None:
    events: list[Event] = []

    async def main() -> None:
        host = host_of(events)
        running = asyncio.ensure_future(host.run(arrived("a", 0), answer))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.sleep(0)
        assert await host.run(arrived("b", 1), answer) == "b"

    asyncio.run(main())
    told = [type(event) for event in events if getattr(event, "request_id", "") == "a"]
    assert told == [RequestArrived, RequestCancelled]


def test_a_row_between_two_steps_leaves_once() -> None:
    events: list[Event] = []

    async def main() -> None:
        host = host_of(events)
        await host.run(arrived("a", 0, has_successor=True), answer)
        host.workflow_left("0")
        host.workflow_left("0")
        await host.run(arrived("b", 1, has_successor=True), answer)
        await host.run(arrived("b2", 1), answer)
        host.workflow_left("1")

    asyncio.run(main())
    assert [event.workflow_id for event in events if isinstance(event, WorkflowLeft)] == ["0"]
