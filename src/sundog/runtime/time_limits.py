"""Time limits of calls that run at the same time.

Owns their timers. `asyncio.timeout` makes and cancels a timer for each call, which took 4 % of the coordinator's time;
calls with the same limit reach it in the order in which they began, so one timer for each limit is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Limited:
    """A piece of work under way. `num_cancelled`: how often its task had been cancelled before."""

    task: asyncio.Task[Any]
    end_s: float
    num_cancelled: int
    is_late: bool = False


class TimeLimits:
    """Ends what takes too long, on the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._open: dict[float, dict[_Limited, None]] = {}
        self._timed: set[float] = set()

    async def within(self, limit_s: float, work: Awaitable[T]) -> T:
        """The result of `work`; TimeoutError, as of `asyncio.timeout`, where it takes longer than `limit_s`."""
        task = asyncio.current_task()
        assert task is not None, "only a task can be ended"
        limited = _Limited(task, self._loop.time() + limit_s, task.cancelling())
        under_way = self._open.get(limit_s)
        if under_way is None:
            under_way = self._open[limit_s] = {}
        under_way[limited] = None
        if limit_s not in self._timed:
            self._set_timer(limit_s, limited)
        try:
            return await work
        except asyncio.CancelledError as error:
            if limited.is_late and task.cancelling() <= limited.num_cancelled + 1:
                raise TimeoutError from error
            raise
        finally:
            under_way.pop(limited, None)
            if limited.is_late:
                task.uncancel()

    def _set_timer(self, limit_s: float, first: _Limited) -> None:
        self._timed.add(limit_s)
        self._loop.call_at(first.end_s, self._end_late, limit_s)

    def _end_late(self, limit_s: float) -> None:
        self._timed.discard(limit_s)
        under_way, now_s = self._open[limit_s], self._loop.time()
        while under_way:
            first = next(iter(under_way))
            if first.end_s > now_s:
                self._set_timer(limit_s, first)
                return
            del under_way[first]
            first.is_late = True
            first.task.cancel()
