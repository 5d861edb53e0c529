"""This module drives a run from Python: on a loop of its own in another thread, or row by row while it goes on.

Owns the two ways to end a run early from outside of its loop. Never decides what a run does then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from sundog.errors import RunStopped
from sundog.execution.calls.guard import run_loop
from sundog.execution.row_way import RowEnd
from sundog.runtime.run import Run

T = TypeVar("T")
MAX_UNREAD_ROWS = 256


class Drive:
    """This class drives one run in a thread of its own, and ends it when this thread is interrupted."""

    def __init__(self, on_interrupt: Callable[[], None]) -> None:
        """`on_interrupt`: called once, when the run is first told to stop."""
        self._on_interrupt = on_interrupt
        self._is_stopped = False
        self._begun: tuple[Run, asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def begin(self, opened: Run) -> None:
        """Take the run that the current task executes, from where it may be stopped; at once if it was told to."""
        task = asyncio.current_task()
        assert task is not None
        self._begun = opened, asyncio.get_running_loop(), task
        if self._is_stopped:
            opened.stop()

    def in_thread(self, main: Coroutine[Any, Any, T]) -> T:
        """Return what `main` gives, which calls `begin`. The first interrupt of this thread lets running calls end, so
        that `main` raises RunStopped; the second one stops it at once, with KeyboardInterrupt."""
        with ThreadPoolExecutor(1, thread_name_prefix="sundog-run") as thread:
            future = thread.submit(run_loop, main)
            try:
                return future.result()
            except KeyboardInterrupt:
                self._is_stopped = True
                self._on_interrupt()
                self._on_loop(lambda opened, task: opened.stop())
            try:
                return future.result()
            except KeyboardInterrupt:
                self._on_loop(lambda opened, task: task.cancel())
                raise

    def _on_loop(self, act: Callable[[Run, asyncio.Task[Any]], object]) -> None:
        if self._begun is not None:
            opened, loop, task = self._begun
            loop.call_soon_threadsafe(act, opened, task)


async def ended_rows(opened: Run) -> AsyncGenerator[RowEnd, None]:
    """Yield rows as they end, from a run that is executed meanwhile; raises what stopped it. Closing it early lets
    running calls end. A slow reader slows the run down: no more than MAX_UNREAD_ROWS wait for it."""
    ends: asyncio.Queue[RowEnd | None] = asyncio.Queue(MAX_UNREAD_ROWS)

    async def execute() -> None:
        try:
            await opened.execute(ends.put)
        finally:
            await ends.put(None)

    executing = asyncio.ensure_future(execute())
    end: RowEnd | None = None
    try:
        while (end := await ends.get()) is not None:
            yield end
    except (GeneratorExit, asyncio.CancelledError) as leaving:
        if isinstance(leaving, GeneratorExit):
            opened.stop()
        else:
            executing.cancel()
        while await ends.get() is not None:
            """The rows that were on their way are committed; nobody reads them here."""
        with suppress(RunStopped, asyncio.CancelledError):
            await executing
        raise
    await executing
