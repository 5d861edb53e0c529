"""The life of one batch: checked, worked on line by line, ended.

Owns the order of its states, and that each line ends once. What a line becomes, batches.answering knows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sundog.serve.batches.answering import LineWork, request_id
from sundog.serve.batches.attempts import Attempted
from sundog.serve.batches.checking import LineCheck
from sundog.serve.batches.figures import LineOutcome
from sundog.serve.batches.reading import RawLine, line_pages
from sundog.serve.batches.room import MAX_LINES_AT_ONCE, LinePlace, LineRoom
from sundog.serve.batches.turns import BatchTurn, TurnPlace
from sundog.serve.serving import Serving
from sundog.serve.wire.batches.files import BATCH_OUTPUT
from sundog.serve.wire.batches.lines import (
    BatchLine,
    LineRules,
    answered_line,
    line_error,
    read_line,
    unanswered_line,
)
from sundog.serve.wire.errors import Refusal
from sundog.store.batches import BatchBook, BatchStatus, KeptBatch, LineEnd, LineTotals
from sundog.store.files import FileBook, KeptFile

T = TypeVar("T")
EXPIRED = "batch_expired"
WHY_EXPIRED = "the completion window of the batch was over before this line had ended"
LOOK_S = 1.0
"""A batch whose flow is not served looks for it so often."""
MAX_BYTES_OF_BATCH = 16 * 2**20
"""The lines of one batch that are worked on, or wait to be tried again, are no longer together."""


class BatchRun:
    """This class takes one batch to its end, from wherever it is. `path`: of its lines; `turns`: batches that are
    worked on at once."""

    def __init__(
        self,
        batch: KeptBatch,
        path: Path,
        serving: Serving,
        work: LineWork,
        room: LineRoom,
        turns: asyncio.Semaphore,
    ) -> None:
        #: The batch as it was kept last.
        self.batch = batch
        self._path = path
        self._serving = serving
        self._figures = serving.batch_figures
        self._book = BatchBook(serving.host.store)
        self._files = FileBook(serving.host.store)
        self._work = work
        self._room = room
        #: The room of this batch alone: its lines that wait to be tried again have left the other one.
        self._own_room = LineRoom(MAX_LINES_AT_ONCE, MAX_BYTES_OF_BATCH)
        self._turns = turns
        #: Over the lines whose ends are kept.
        self.totals: LineTotals = self._book.totals(batch.batch_id)
        self._is_cancelled = asyncio.Event()
        #: Set when no further line will begin.
        self._has_stopped = asyncio.Event()

    async def run(self) -> None:
        """Return when the batch has ended, or the server stops: then it goes on at its next start."""
        try:
            if self.batch.status == "validating":
                await self._check()
            if self.batch.status == "in_progress":
                await self._work_through()
            if self.batch.status == "cancelling":
                await self._end("cancelled")
            if self.batch.status == "finalizing":
                await self._end("completed")
        except* Refusal as refusals:
            # Its file is gone, or damaged: that is the end of this batch, and of no other one.
            refusal = refusals.exceptions[0]
            while isinstance(refusal, BaseExceptionGroup):
                refusal = refusal.exceptions[0]
            await self._fail([line_error(refusal, None)])
        finally:
            self._has_stopped.set()

    async def cancel(self) -> None:
        """Begin no further line; return when that is kept, or the batch has ended."""
        self._is_cancelled.set()
        await self._has_stopped.wait()

    async def _check(self) -> None:
        errors = await self._unless_over(self._errors(), None)
        if self._is_cancelled.is_set():
            await self._change("cancelling")
        elif errors is None:
            await self._end("expired")
        elif errors:
            await self._fail(errors)
        else:
            await self._change("in_progress")

    async def _fail(self, errors: list[dict[str, Any]]) -> None:
        self.batch = replace(self.batch, errors=errors)
        await self._end("failed")

    async def _errors(self) -> list[dict[str, Any]] | None:
        """Return what is wrong with the lines, having counted them; None where the time of the batch was over before
        anybody could tell."""
        rules = await self._rules()
        if rules is None:
            return None
        async with self._turns:
            check = LineCheck(rules)
            await check.read(self._path)
            self.batch = replace(self.batch, num_lines=check.num_lines)
            return check.errors

    async def _rules(self) -> LineRules | None:
        while True:
            rules = self._work.rules()
            if rules is not None or self._left_s() <= 0:
                return rules
            await asyncio.sleep(LOOK_S)

    async def _work_through(self) -> None:
        is_done = await self._unless_over(self._feed(), max(0.0, self._left_s()))
        if is_done:
            await self._change("finalizing")
        elif self._is_cancelled.is_set():
            await self._change("cancelling")
        elif self._left_s() <= 0:
            await self._expire()

    async def _unless_over(self, work: Coroutine[Any, Any, T], within_s: float | None) -> T | None:
        """Return what some work gives, None where the batch is cancelled or its time is over before."""
        task, cancelling = asyncio.ensure_future(work), asyncio.ensure_future(self._is_cancelled.wait())
        try:
            await asyncio.wait({task, cancelling}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self._work.leave()
        finally:
            cancelling.cancel()
            task.cancel()
            await asyncio.wait({task})
        return None if task.cancelled() else task.result()

    async def _feed(self) -> bool:
        """Work on all lines that have not ended, and return whether they have; not where the server stops."""
        turn = BatchTurn(self._turns)
        async with asyncio.TaskGroup() as lines, aclosing(self._unended()) as unended:
            reading = TurnPlace(turn)
            await reading.enter()
            try:
                async for line, num_bytes in unended:
                    if not self._own_room.has_room(num_bytes):
                        reading.leave()
                    await self._own_room.enter(num_bytes)
                    await reading.enter()
                    await self._room.enter(num_bytes)
                    await self._begin(lines, line, num_bytes, TurnPlace(turn))
                    if self._serving.is_stopping:
                        break
            finally:
                reading.leave()
        return not self._serving.is_stopping

    async def _begin(self, lines: asyncio.TaskGroup, line: BatchLine, num_bytes: int, turn: TurnPlace) -> None:
        await turn.enter()
        place = LinePlace(self._room, num_bytes, turn)
        self._figures.num_lines_in_flight += 1
        task = lines.create_task(self._answer(line, place))
        # What is cancelled before it begins has no other end.
        task.add_done_callback(partial(self._left, place, num_bytes))

    def _left(self, place: LinePlace, num_bytes: int, task: asyncio.Task[None]) -> None:
        self._figures.num_lines_in_flight -= 1
        place.leave()
        self._own_room.leave(num_bytes)

    async def _unended(self) -> AsyncGenerator[tuple[BatchLine, int], None]:
        """Yield the lines that have not ended, each with its length in bytes."""
        async with aclosing(line_pages(self._path)) as pages:
            async for page in pages:
                for one in self._unended_of(page):
                    yield read_line(one.number, one.raw), len(one.raw)

    def _unended_of(self, page: list[RawLine]) -> list[RawLine]:
        ended = self._book.ended(self.batch.batch_id, page[0].number, page[-1].number)
        return [line for line in page if line.number not in ended]

    async def _answer(self, line: BatchLine, place: LinePlace) -> None:
        end = await self._end_of(line, place)
        if end is not None:
            await self._kept(end, "failed" if end.is_error else "completed")

    async def _end_of(self, line: BatchLine, place: LinePlace) -> LineEnd | None:
        """Return the end of a line, None where it has none before the work is over."""
        num_attempts = num_failures = 0
        while not self._is_over:
            attempted = await self._work.attempt(line)
            num_attempts += 1
            num_failures += not attempted.is_patient
            wait_s = attempted.wait_s(num_attempts, num_failures)
            if wait_s is None:
                return self._told(line, attempted)
            if not self._is_over:
                await place.wait(wait_s)
        return None

    def _told(self, line: BatchLine, attempted: Attempted) -> LineEnd:
        error = attempted.error
        if error is not None and self._left_s() <= 0:
            error = {**error, "code": EXPIRED}
        body = answered_line(self.batch.batch_id, line, attempted.status, request_id(), attempted.body, error)
        return LineEnd(line.number, not attempted.is_good, body)

    async def _kept(self, end: LineEnd, how: LineOutcome) -> None:
        """Return when the end of a line is kept, also where this is cancelled: it is not told twice."""
        keeping = asyncio.ensure_future(self._keep(end, how))
        try:
            await asyncio.shield(keeping)
        except asyncio.CancelledError:
            await keeping
            raise

    async def _keep(self, end: LineEnd, how: LineOutcome) -> None:
        """Keep the end of a line, and count it once it is on the disk."""
        num_before = self.totals.num_failed if end.is_error else self.totals.num_completed
        file = None if num_before else self._file(is_error=end.is_error)
        await self._book.end_line(self.batch.batch_id, end, file)
        self.totals.add(end)
        self._figures.num_ended_lines[how] += 1

    def _file(self, *, is_error: bool) -> KeptFile:
        batch, now = self.batch, time.time()
        expires_at = None if batch.output_expires_s is None else now + batch.output_expires_s
        file_id, kind = (batch.error_file_id, "error") if is_error else (batch.output_file_id, "output")
        name = f"{batch.batch_id}_{kind}.jsonl"
        return KeptFile(file_id, batch.principal, BATCH_OUTPUT, name, 0, now, expires_at, batch.batch_id)

    async def _expire(self) -> None:
        """Tell of each line that has not ended that its time is over."""
        async with aclosing(line_pages(self._path)) as pages:
            async for page in pages:
                lines = [read_line(one.number, one.raw) for one in self._unended_of(page)]
                bodies = [unanswered_line(self.batch.batch_id, line, EXPIRED, WHY_EXPIRED) for line in lines]
                ends = [LineEnd(line.number, True, body) for line, body in zip(lines, bodies, strict=True)]
                await asyncio.gather(*(self._keep(end, "expired") for end in ends))
        await self._end("expired")

    async def _end(self, status: BatchStatus) -> None:
        batch, totals = self.batch, self.totals
        if totals.num_completed:
            await self._files.resize(batch.output_file_id, totals.num_output_bytes)
        if totals.num_failed:
            await self._files.resize(batch.error_file_id, totals.num_error_bytes)
        await self._change(status)

    async def _change(self, status: BatchStatus) -> None:
        self.batch = replace(
            self.batch,
            status=status,
            times={**self.batch.times, status: time.time()},
            num_completed=self.totals.num_completed,
            num_failed=self.totals.num_failed,
        )
        await self._book.change(self.batch)
        if status != "in_progress":
            self._has_stopped.set()

    def _left_s(self) -> float:
        return self.batch.expires_at - time.time()

    @property
    def _is_over(self) -> bool:
        return self._is_cancelled.is_set() or self._serving.is_stopping or self._left_s() <= 0
