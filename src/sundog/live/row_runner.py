"""The rows of accepted requests on their way: each runs at once, and its end is committed before it is told.

Owns how a row ends that nobody wants any more, or whose time is over. Never accepts a request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from sundog.errors import AnswersAwaited, LimitReached, OperatorError, RunError, RunStopped, StoreError
from sundog.execution.row_way import NodeFailed, RowEnd
from sundog.host.driver import Driver
from sundog.ir.row_ids import RowRef
from sundog.live.failures import Failures
from sundog.live.flow_request import FlowRequest
from sundog.live.terms import LiveScope, Terms
from sundog.live.tracing import RowRuns
from sundog.store.store import Store

TABLE = ""
"""A served flow has one table, which its user never names."""
DEADLINE = "deadline"
"""In the place of a node: the deadline of the request ended the row."""
CANCELLED = "cancelled"
"""In the place of a node: whoever sent the request cancelled it."""
LIMIT = "limit"
"""In the place of a node: a limit of dollars or tokens lets a call of the row no more start."""
ENGINE = "engine"
"""In the place of a node: no engine is left that could answer."""


class RowRunner:
    """This class runs the rows of one flow's requests."""

    def __init__(
        self,
        flow: str,
        scope: LiveScope,
        executor: RowRuns,
        store: Store,
        driver: Driver,
        on_failure: asyncio.Future[None],
        failures: Failures,
    ) -> None:
        """`on_failure`: the host ends with what is set here, which is a bug, or a store that takes nothing any more.
        `failures`: counts the rows that fail."""
        self._flow = flow
        self._failures = failures
        self._scope = scope
        self._executor = executor
        self._store = store
        self._driver = driver
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[None]] = set()
        #: By row, those that a person has to answer for.
        self._awaiting: dict[RowRef, tuple[FlowRequest, Mapping[str, Any], Terms]] = {}

    def start(self, request: FlowRequest, place: int, row: Mapping[str, Any], terms: Terms) -> None:
        """Run a row of a request."""
        task = asyncio.ensure_future(self._run(request, place, row, terms))
        self._tasks.add(task)
        task.add_done_callback(partial(self._done, request))

    async def look_for_answers(self) -> None:
        """Go on with rows whose questions a person has answered, and end those whose time is over."""
        if not self._awaiting:
            return
        left, now = {one.row for one in self._store.awaited(self._scope.run_id)}, time.time()
        over = {ref for ref, (_, _, terms) in self._awaiting.items() if terms.is_over(now)}
        for ref in [ref for ref in self._awaiting if ref in over or ref not in left]:
            request, row, terms = self._awaiting.pop(ref)
            self.start(request, ref.row_id[1], row, terms)

    async def wait(self, within_s: float) -> None:
        """Return when nothing runs any more, or after `within_s`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)

    async def close(self) -> None:
        """Let go of what runs; nothing of it ends."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def end_awaiting(self, request: FlowRequest) -> None:
        """Go on with the rows of a cancelled request that wait for a person, so that they end."""
        for ref in [ref for ref, (one, _, _) in self._awaiting.items() if one is request]:
            _, row, terms = self._awaiting.pop(ref)
            self.start(request, ref.row_id[1], row, terms)

    @property
    def is_idle(self) -> bool:
        """Return whether no row of its is left."""
        return not self._tasks and not self._awaiting

    async def _run(self, request: FlowRequest, place: int, row: Mapping[str, Any], terms: Terms) -> None:
        ref = RowRef(TABLE, (request.accepted.number, place))
        # A task that is cancelled before it begins would end without its row.
        request.running.add(_this_task())
        try:
            end = await self._end_of(request, ref, row, terms)
        except AnswersAwaited as awaited:
            self._awaiting[ref] = request, row, terms
            if awaited.said is not None:
                await self._store.put_transcripts(self._scope.run_id, ref, awaited.said)
            return
        self._driver.workflow_left(self._scope.workflow_id(ref))
        # What is on its way to the disk is cancelled by nobody.
        request.running.discard(_this_task())
        await self._store.put_row(self._scope.run_id, ref, end.state, end.body, end.asked, end.said)
        if end.state == "failed":
            told = self._store.decoded(end.body)
            self._failures.row_failed(self._flow, told["node"], told["cause"], time.time(), terms.tenant)
        await request.row_ended(place, end)

    async def _end_of(self, request: FlowRequest, ref: RowRef, row: Mapping[str, Any], terms: Terms) -> RowEnd:
        """Return how a row ends, also where its time is over or nobody wants it. RunStopped where it does not."""
        if request.is_cancelled:
            return _failed(ref, CANCELLED, "the request was cancelled", None)
        if terms.is_over(time.time()):
            return _out_of_time(ref)
        on_value = partial(request.step_ended, ref.row_id[1]) if request.keeps_steps else None
        left_s = None if terms.deadline_at is None else terms.deadline_at - time.time()
        try:
            async with asyncio.timeout(left_s):
                return await self._executor.run(ref, row, request.accepted.number, on_value)
        except TimeoutError:
            return _out_of_time(ref)
        except asyncio.CancelledError:
            if not request.is_cancelled:
                raise
            _this_task().uncancel()
            return _failed(ref, CANCELLED, "the request was cancelled", None)
        except LimitReached as reached:
            # Others of the request go on, which may need no money.
            return _failed(
                ref, LIMIT, reached.what, "send it again with a larger limit: what was made is not paid again"
            )
        except (RunStopped, StoreError):
            raise
        except RunError as error:
            # The flow goes on for others: an engine without a replica is this row's failure.
            return _failed(ref, ENGINE, error.what, error.hint)

    def _done(self, request: FlowRequest, task: asyncio.Task[None]) -> None:
        request.running.discard(task)
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if not isinstance(error, RunStopped) and not self._on_failure.done():
            self._on_failure.set_exception(error)


def _out_of_time(ref: RowRef) -> RowEnd:
    return _failed(ref, DEADLINE, "the deadline of the request has passed", "give it more time")


def _failed(ref: RowRef, node: str, what: str, hint: str | None) -> RowEnd:
    return RowEnd(ref, "failed", NodeFailed(node, OperatorError(what, hint=hint)).body({}, None), ())


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None, "rows run in tasks"
    return task
