"""Time limits of many calls with one timer each limit: as asyncio.timeout ends one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from sundog.execution.calls.time_limits import TimeLimits

FAR_S = 3600.0
T = TypeVar("T")


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


async def for_ever() -> None:
    await asyncio.Event().wait()


async def limited(limits: TimeLimits, limit_s: float, work: Callable[[], Awaitable[T]]) -> T:
    with limits.within(limit_s):
        return await work()


def test_what_is_late_is_ended_and_its_task_goes_on_as_if_nobody_had_cancelled_it() -> None:
    async def test() -> None:
        limits, task = TimeLimits(), asyncio.current_task()
        assert task is not None
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await limited(limits, 0.0, for_ever)
            assert task.cancelling() == 0
        assert await limited(limits, 0.0, lambda: asyncio.sleep(0, "in time")) == "in time"

    run(test())


def test_each_of_many_is_ended_and_none_that_has_time_left() -> None:
    async def test() -> None:
        limits = TimeLimits()
        patient = asyncio.ensure_future(limited(limits, FAR_S, for_ever))
        late = await asyncio.gather(*(limited(limits, 0.0, for_ever) for _ in range(3)), return_exceptions=True)
        assert [type(one) for one in late] == [TimeoutError] * 3
        limits._end_late(FAR_S)  # as when the timer of one that has ended meanwhile comes
        await asyncio.sleep(0)
        assert not patient.done()
        patient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await patient

    run(test())


def test_a_cancellation_from_outside_is_no_lateness_even_where_both_come() -> None:
    async def test() -> None:
        limits = TimeLimits()

        async def late_and_cancelled() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.get_loop().call_soon(task.cancel)
            await limited(limits, 0.0, for_ever)

        with pytest.raises(asyncio.CancelledError):
            await asyncio.ensure_future(late_and_cancelled())

    run(test())


def test_work_that_swallows_its_cancellation_keeps_its_result() -> None:
    async def stubborn() -> str:
        try:
            await for_ever()
        except asyncio.CancelledError:
            return "late, but there"
        raise AssertionError

    async def test() -> None:
        task = asyncio.current_task()
        assert task is not None
        assert await limited(TimeLimits(), 0.0, stubborn) == "late, but there"
        assert task.cancelling() == 0

    run(test())
