"""All batches of a state folder: those at work, and the end of files whose time is over.

Owns which process works on them: one at a time, known by a lock. The life of one is batches.run's affair.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from sundog.errors import UserError
from sundog.host.beside import beside
from sundog.ir.values.canonical import fingerprint
from sundog.serve.batches.answering import work_of
from sundog.serve.batches.room import LineRoom
from sundog.serve.batches.run import BatchRun
from sundog.serve.batches.shelf import FileShelf
from sundog.serve.doors.models.door import ModelDoor
from sundog.serve.serving import Serving
from sundog.serve.wire.batches.requests import WantedBatch
from sundog.serve.wire.errors import Refusal
from sundog.store.batches import BatchBook, KeptBatch, LineTotals
from sundog.store.files import FileBook, KeptFile
from sundog.store.runs import RunList

log = logging.getLogger("sundog.serve")
MAX_OPEN = 1_000
"""Batches that have not ended; what comes beyond is refused."""
MAX_AT_WORK = 64
"""Batches that are worked on at once; the others wait for their turn."""
SWEEP_S = 60.0
NUM_SWEPT_AT_ONCE = 100
"""So many rows of files are read at once."""


class Batches:
    """This class holds the batches of one state folder. `open_batches` opens it."""

    def __init__(self, serving: Serving, models: ModelDoor, shelf: FileShelf) -> None:
        self._serving = serving
        self._models = models
        self._shelf = shelf
        self.book = BatchBook(serving.host.store)
        self.files = FileBook(serving.host.store)
        self.room = LineRoom()
        self._turns = asyncio.Semaphore(MAX_AT_WORK)
        #: False where another process works on the batches of the folder.
        self.is_ours = False
        #: By id, those that have not ended.
        self._runs: dict[str, BatchRun] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def create(self, principal: str, wanted: WantedBatch) -> KeptBatch:
        """Accept a batch, and begin it; Refusal where that is not possible now."""
        if self._serving.is_stopping:
            raise Refusal(503, "the server is stopping", code="stopping", retry_after_s=1.0)
        if not self.is_ours:
            what = "another server works on the batches of this state folder; send them there, or give each its --state"
            raise Refusal(503, what, code="batches_elsewhere", is_final=True)
        if len(self._runs) >= MAX_OPEN:
            raise Refusal(429, f"{MAX_OPEN:,} batches have not ended", code="too_many_batches", retry_after_s=60.0)
        name, now = uuid.uuid4().hex, time.time()
        batch = KeptBatch(
            f"batch_{name}",
            principal,
            wanted.input_file_id,
            wanted.endpoint,
            wanted.completion_window,
            wanted.metadata,
            wanted.output_expires_s,
            f"file-{name}-output",
            f"file-{name}-error",
            now,
            now + wanted.window_s,
        )
        await self.book.add(batch)
        self._begin(batch)
        return batch

    async def cancel(self, batch: KeptBatch) -> None:
        """Begin no further line of a batch."""
        run = self._runs.get(batch.batch_id)
        if run is not None:
            await run.cancel()
        elif batch.is_open:
            raise Refusal(503, "another server works on this batch", code="batches_elsewhere", is_final=True)

    def now(self, batch: KeptBatch) -> tuple[KeptBatch, LineTotals]:
        """Return a batch as it is now, with the sums over its lines that have ended."""
        run = self._runs.get(batch.batch_id)
        if run is not None:
            return run.batch, run.totals
        return batch, LineTotals(batch.num_completed, batch.num_failed)

    def num_bytes(self, file: KeptFile) -> int:
        """Return how long a file is now."""
        run = None if file.batch_id is None else self._runs.get(file.batch_id)
        if run is None:
            return file.num_bytes
        is_error = file.file_id == run.batch.error_file_id
        return run.totals.num_error_bytes if is_error else run.totals.num_output_bytes

    async def delete(self, file: KeptFile) -> None:
        """Forget a file, and what it holds. Its row goes last: where this is cut off, a sweep finds it, and ends it."""
        await self.files.expire(file.file_id, time.time())
        if file.batch_id is None:
            await self._shelf.remove(file.file_id)
        else:
            await self.book.drop_lines(file.batch_id, is_error=self.is_of_errors(file, file.batch_id))
        await self.files.delete(file.file_id)

    def is_of_errors(self, file: KeptFile, batch_id: str) -> bool:
        """Return whether a file of a batch is the one of its errors."""
        batch = self.book.find(file.principal, batch_id)
        assert batch is not None, "a batch outlives its files"
        return batch.error_file_id == file.file_id

    def resume(self) -> None:
        """Go on with the batches that have not ended."""
        self.is_ours = True
        self._shelf.remove_stale(self.files)
        for batch in self.book.open():
            self._begin(batch)

    async def keep_swept(self) -> None:
        """Forget files whose time is over, for as long as nobody cancels this."""
        while True:
            await self.sweep()
            await asyncio.sleep(SWEEP_S)

    async def sweep(self) -> None:
        """Forget all files whose time is over now and that no batch needs."""
        now, after = time.time(), ""
        while files := self.files.expired(now, after, NUM_SWEPT_AT_ONCE):
            after = files[-1].file_id
            for file in files:
                if self.book.reader_of(file.file_id) is None:
                    try:
                        await self.delete(file)
                    except OSError as error:
                        log.error("the bytes of the file %s stay on the disk: %s", file.file_id, error)

    async def close(self) -> None:
        """Let go of what is at work; it goes on at the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, batch: KeptBatch) -> None:
        path, work = self._shelf.path(batch.input_file_id), work_of(batch, self._serving, self._models)
        run = self._runs[batch.batch_id] = BatchRun(batch, path, self._serving, work, self.room, self._turns)
        self._serving.batch_figures.num_open = len(self._runs)
        task = asyncio.ensure_future(run.run())
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, run))

    def _done(self, run: BatchRun, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not run.batch.is_open:
            del self._runs[run.batch.batch_id]
            self._serving.batch_figures.num_open = len(self._runs)
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("the batch %s has failed", run.batch.batch_id, exc_info=error)
        failure = self._serving.host.failure
        if not failure.done():
            failure.set_exception(error)


@asynccontextmanager
async def open_batches(serving: Serving, models: ModelDoor, shelf: FileShelf) -> AsyncIterator[Batches]:
    """Yield the batches of a state folder, and work on them, unless another process does."""
    batches = Batches(serving, models, shelf)
    async with AsyncExitStack() as stack:
        try:
            stack.enter_context(RunList(serving.host.store, serving.config.state_dir).lock(fingerprint(["batches"])))
        except UserError as error:
            log.warning("batches are not worked on here: %s", error.what)
            yield batches
            return
        stack.push_async_callback(batches.close)
        works = (serving.host.or_fail(work) for work in (batches.keep_swept, batches.room.keep_pace))
        await stack.enter_async_context(beside(*works))
        batches.resume()
        yield batches
