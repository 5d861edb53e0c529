"""Time limits of calls that run at the same time.

Owns their timers. `asyncio.timeout` makes and cancels a timer for each call, which took 4 % of the coordinator's time;
calls with the same limit reach it in the order in which they began, so one timer for each limit is enough.
"""

from __future__ import annotations

import asyncio
from typing import Any


class _Limited:
    """A piece of work of one task, as a context. `end_s`: when it must have ended, on the loop's clock. `under_way`:
    what runs with the same limit, in the order in which it began."""

    __slots__ = ("_num_cancelled", "_task", "end_s", "is_late", "under_way")

    def __init__(self, task: asyncio.Task[Any], end_s: float, under_way: dict[_Limited, None]) -> None:
        self.end_s = end_s
        self.under_way = under_way
        self.is_late = False
        self._task = task
        self._num_cancelled = task.cancelling()

    def __enter__(self) -> None:
        self.under_way[self] = None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        self.under_way.pop(self, None)
        if not self.is_late:
            return
        is_own = self._task.cancelling() <= self._num_cancelled + 1
        self._task.uncancel()
        if is_own and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def end(self) -> None:
        self.is_late = True
        self._task.cancel()


class TimeLimits:
    """Ends what takes too long, on the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._under_way: dict[float, dict[_Limited, None]] = {}
        self._timed: set[float] = set()

    def within(self, limit_s: float) -> _Limited:
        """Return a context, to be entered at once, in which the running task may spend `limit_s`; then it ends with
        TimeoutError, as `asyncio.timeout` does."""
        task = asyncio.current_task(self._loop)
        assert task is not None, "only a task can be ended"
        under_way = self._under_way.get(limit_s)
        if under_way is None:
            under_way = self._under_way[limit_s] = {}
        limited = _Limited(task, self._loop.time() + limit_s, under_way)
        if limit_s not in self._timed:
            self._set_timer(limit_s, limited)
        return limited

    def _set_timer(self, limit_s: float, first: _Limited) -> None:
        self._timed.add(limit_s)
        self._loop.call_at(first.end_s, self._end_late, limit_s)

    def _end_late(self, limit_s: float) -> None:
        self._timed.discard(limit_s)
        under_way, now_s = self._under_way[limit_s], self._loop.time()
        while under_way:
            first = next(iter(under_way))
            if first.end_s > now_s:
                self._set_timer(limit_s, first)
                return
            del under_way[first]
            first.end()
