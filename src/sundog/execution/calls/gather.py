"""Calls that wait together become one request, where the operator can prove that each gets what it would get alone.

Owns who is gathered with whom, and when to stop trying. It waits for nothing: a batch is what has arrived by the time
that the core lets its request start. A batch that fails, and a call whose answer is not certain, run alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field

from sundog.errors import CallError, RunStopped
from sundog.execution.calls.call_key import CallIdentity
from sundog.execution.calls.guard import CommittedOutcome
from sundog.ir.physical import CallExec
from sundog.operators.base import BoundCall

# Databases take at least 999 values in one statement.
MAX_GATHERED_CALLS = 500
MAX_MISSES = 3
"""So many requests of a step in which most calls got no answer, and its calls are no longer gathered."""

Take = Callable[[], Sequence[BoundCall]]
Send = Callable[[CallExec, CallIdentity, Take], Awaitable[Sequence[CommittedOutcome | None]]]
"""Runs one request of the core, in the place of its first call, and takes the calls when it starts."""


@dataclass(slots=True)
class _Batch:
    calls: list[BoundCall] = field(default_factory=list)
    waiting: list[asyncio.Future[CommittedOutcome | None]] = field(default_factory=list)


class Gatherer:
    """The batches of one run. `send` may be called for several at once."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._open: dict[tuple[str, Hashable], _Batch] = {}
        self._running: set[asyncio.Future[None]] = set()
        self._num_misses: Counter[str] = Counter()

    async def ask(
        self, node: CallExec, group: Hashable, call: BoundCall, identity: CallIdentity
    ) -> CommittedOutcome | None:
        """Return the call's outcome, exactly as it would be alone; None: run it alone. RunStopped when the run
        drains."""
        if self._num_misses[node.name] >= MAX_MISSES:
            return None
        key = (node.name, group)
        batch = self._open.get(key)
        if batch is None:
            batch = self._open[key] = _Batch()
            running = asyncio.ensure_future(self._run(node, key, batch, identity))
            self._running.add(running)
            running.add_done_callback(self._running.discard)
        answer: asyncio.Future[CommittedOutcome | None] = asyncio.get_running_loop().create_future()
        batch.calls.append(call)
        batch.waiting.append(answer)
        if len(batch.calls) == MAX_GATHERED_CALLS:
            del self._open[key]
        return await answer

    async def _run(self, node: CallExec, key: tuple[str, Hashable], batch: _Batch, identity: CallIdentity) -> None:
        def take() -> Sequence[BoundCall]:
            self._close(key, batch)
            return batch.calls

        try:
            answers = await self._send(node, identity, take)
        except CallError:
            # What the failure means for a call is known when that call has run alone, with its own attempts.
            answers = [None] * len(batch.calls)
        except BaseException as error:
            is_cancelled = isinstance(error, asyncio.CancelledError)
            self._close(key, batch)
            for waiting in _undone(batch):
                waiting.set_exception(RunStopped("the run was stopped") if is_cancelled else error)
            if is_cancelled:
                raise
            return
        num_answered = sum(answer is not None for answer in answers)
        self._num_misses[node.name] += 2 * num_answered < len(answers)
        for waiting, answer in zip(batch.waiting, answers, strict=True):
            if not waiting.done():
                waiting.set_result(answer)

    def _close(self, key: tuple[str, Hashable], batch: _Batch) -> None:
        if self._open.get(key) is batch:
            del self._open[key]


def _undone(batch: _Batch) -> list[asyncio.Future[CommittedOutcome | None]]:
    return [waiting for waiting in batch.waiting if not waiting.done()]
