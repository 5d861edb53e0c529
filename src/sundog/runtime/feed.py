"""Rows into the wavefront: bounded in flight, each ended row committed.

Owns back-pressure and the reasons to stop. Never runs a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

from sundog.errors import AnswersAwaited, RunStopped, SundogError
from sundog.execution.calls.call_key import RunScope
from sundog.execution.executor import RowExecutor
from sundog.execution.input_row import BadRow, IdentifiedRows
from sundog.execution.row_way import RowEnd
from sundog.host.driver import Driver
from sundog.ir.row_ids import RowRef
from sundog.ir.templates.template import Path as ValuePath
from sundog.runtime.figures.progress import Progress
from sundog.runtime.row_window import RowWindow, bytes_of
from sundog.store.store import Store

OnRow = Callable[[RowEnd], Awaitable[None]]
"""Hears of a committed row; the row keeps its place among those in flight until it returns."""


class Feed:
    """Takes batches of rows and runs them, at most `max_rows_in_flight` at once and of long rows fewer. The driver
    hears of each row's end before it is committed, and that the run stops."""

    def __init__(
        self,
        run: RunScope,
        executor: RowExecutor,
        store: Store,
        driver: Driver,
        progress: Progress,
        *,
        max_rows_in_flight: int,
        max_errors: int | None,
        on_row: OnRow | None,
    ) -> None:
        self._run = run
        self._table = executor.table
        self._executor = executor
        self._store = store
        self._driver = driver
        self._progress = progress
        self._window = RowWindow(max_rows_in_flight)
        self._max_errors = max_errors
        self._on_row = on_row
        self._is_stopping = False
        self._failure: BaseException | None = None
        self._rows: set[asyncio.Task[None]] = set()
        #: How many rows have not ended, since a person has to answer first.
        self.num_awaiting = 0
        #: How many rows this process has taken up.
        self.num_started = 0
        #: Each is set when a row has been committed.
        self.listeners: list[asyncio.Event] = []
        #: Hears of a row that waits for a person's answer.
        self.on_awaited: Callable[[RowRef], Awaitable[None]] | None = None

    def stop(self, reason: BaseException | None = None) -> None:
        """Start nothing more; rows in flight end when their running calls do. The first reason counts."""
        self._failure = self._failure or reason
        self._is_stopping = True
        self._driver.stop()

    async def run(self, batches: AsyncIterator[IdentifiedRows], order: Sequence[ValuePath] = ()) -> None:
        """Run all rows, in the order in which they come; raises what stopped the run, if anything did."""
        try:
            async for batch in batches:
                await self._start(batch)
                if self._is_stopping:
                    break
            while self._rows:
                await asyncio.wait(self._rows)
        except asyncio.CancelledError:
            for task in self._rows:
                task.cancel()
            await asyncio.gather(*self._rows, return_exceptions=True)
            raise
        if self._failure is not None:
            raise self._failure
        if self._is_stopping:
            raise interrupted()

    async def _start(self, batch: IdentifiedRows) -> None:
        ended = self._store.finished_rows(self._run.run_id, self._table, (row_id for row_id, _ in batch))
        for row_id, row in batch:
            if row_id in ended:
                continue
            num_bytes = bytes_of(row)
            await self._window.enter(num_bytes)
            if self._is_stopping:
                return
            task = asyncio.ensure_future(self._run_row(RowRef(self._table, row_id), row, self.num_started))
            self.num_started += 1
            self._rows.add(task)
            task.add_done_callback(partial(self._forget, num_bytes))

    async def _run_row(self, ref: RowRef, row: Mapping[str, Any] | BadRow, position: int) -> None:
        try:
            end = await self._executor.run(ref, row, position)
        except AnswersAwaited as awaited:
            if awaited.said is not None:
                await self._store.put_transcripts(self._run.run_id, ref, awaited.said)
            if self.on_awaited is not None:
                await self.on_awaited(ref)
            raise
        self._driver.workflow_left(self._run.workflow_id(ref))
        await self._store.put_row(self._run.run_id, ref, end.state, end.body, end.asked, end.said)
        for changed in self.listeners:
            changed.set()
        self._count(end)
        if self._on_row is not None:
            await self._on_row(end)

    def _forget(self, num_bytes: int, task: asyncio.Task[None]) -> None:
        self._rows.discard(task)
        self._window.leave(num_bytes)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, AnswersAwaited):
            self.num_awaiting += 1
        elif not (isinstance(error, RunStopped) and self._is_stopping):
            self.stop(error)

    def _count(self, end: RowEnd) -> None:
        self._progress.num_asked_by_ended += len(end.asked)
        match end.state:
            case "done":
                self._progress.num_done += 1
            case "dropped":
                self._progress.num_dropped += 1
            case "not_run":
                self._progress.num_not_run += 1
            case "failed":
                self._progress.num_failed += 1
                if self._max_errors is not None and self._progress.num_failed > self._max_errors:
                    self.stop(too_many_failures(self._progress.num_failed, self._max_errors, self._run.run_id))


def interrupted() -> RunStopped:
    return RunStopped("the run was interrupted", hint="the same command, or call, continues it")


def awaiting(num_rows: int, num_questions: int, run_id: str) -> AnswersAwaited:
    """Return the error for a run in which rows wait for a person's answers, or have got them since they asked."""
    if not num_questions:
        return AnswersAwaited("all questions have been answered meanwhile", hint="the same command, or call, goes on")
    rows = "1 row waits" if num_rows == 1 else f"{num_rows:,} rows wait"
    questions = "the answer to 1 question" if num_questions == 1 else f"the answers to {num_questions:,} questions"
    return AnswersAwaited(
        f"{rows} for {questions}", hint=f"sundog answer {run_id}; the same command, or call, then continues the run"
    )


def too_many_failures(num_failed: int, max_errors: int, run_id: str) -> SundogError:
    return RunStopped(
        f"{num_failed} rows failed, more than the {max_errors} allowed",
        hint=f"see them: sundog show {run_id} --errors; repeat the command with --retry-failed to try those rows again",
    )
