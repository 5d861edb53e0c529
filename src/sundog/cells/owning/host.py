"""The host of an owner: its book, and the store with the log that its values are committed to.

Owns no decision. What a store has is read in the same turn of the loop in which the book hears of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import uuid4

from sundog.cells.owning.packing import pack_result, unpack_result
from sundog.cluster.asking import OwnerReply
from sundog.cluster.owner_events import (
    AppendValue,
    AskerBeat,
    AskerGone,
    BatchAsked,
    NewsAsked,
    OwnerAction,
    ValueLogged,
    ValuesFound,
    WakeListener,
)
from sundog.cluster.owners import OwnerBook
from sundog.store.store import Store
from sundog.store.writer import ResultRow

SETTLE_S = 4.0
"""An owner that was started again waits no longer for what the cells lead. They have told it after one second mostly;
one that has not by now, or has nothing to tell, is not worth the others' standing still."""


@asynccontextmanager
async def hosted_owner(folder: Path, log: str, cells_before: int = 0) -> AsyncIterator[OwnerHost]:
    """Give an owner whose state lies in a folder, a cache for that at a URL, and who is the one that writes to a log.
    `cells_before`: it takes the place of one that was lost, and so many cells make calls that it knows nothing of; 0
    for the first one. UserError where another process writes there, StoreError where the log cannot be written."""
    store = Store(folder)
    try:
        with store.writing_to(log):
            store.open_writer()
            yield OwnerHost(store, cells_before)
    finally:
        store.close()


class OwnerHost:
    """One owner; a line that loses nothing."""

    def __init__(self, store: Store, cells_before: int = 0) -> None:
        """`store`: its writer is open. What it has is never made again."""
        self._store = store
        settled_at_s = self._now_s() + SETTLE_S if cells_before else 0.0
        self._book = OwnerBook(uuid4().hex, cells_before, settled_at_s)
        #: By cell, the one that waits for its news.
        self._listeners: dict[str, asyncio.Future[None]] = {}
        self._error: BaseException | None = None

    async def ask(self, batch: BatchAsked) -> tuple[OwnerReply, ...]:
        """Return the answer of a batch. StoreError once the store can commit nothing more."""
        self._check()
        now_s = self._now_s()
        found = self._store.result_rows([*batch.claims, *(key for key, _ in batch.puts)])
        self._book.handle(ValuesFound(now_s, {row[0]: pack_result(row) for row in found}))
        return self._done(self._book.handle(replace(batch, time_s=now_s)))

    async def listen(self, asked: NewsAsked, timeout_s: float) -> tuple[OwnerReply, ...]:
        """Return the news of a cell, as `OwnerLine` says; a question of the same cell that waits still ends."""
        replies = self._news(asked)
        if replies:
            return replies
        self._wake(asked.cell)
        waiting = self._listeners[asked.cell] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout_s):
                await waiting
        except TimeoutError:
            return ()
        finally:
            if self._listeners.get(asked.cell) is waiting:
                del self._listeners[asked.cell]
        return self._news(asked)

    async def beat(self, beat: AskerBeat) -> tuple[OwnerReply, ...]:
        """Let a cell live on; gives a refusal where it was taken for dead."""
        self._check()
        return self._done(self._book.handle(replace(beat, time_s=self._now_s())))

    def gone(self, cell: str) -> None:
        """Let others make the calls of a cell that is known to have ended."""
        self._done(self._book.handle(AskerGone(self._now_s(), cell)))

    def _news(self, asked: NewsAsked) -> tuple[OwnerReply, ...]:
        self._check()
        return self._done(self._book.handle(replace(asked, time_s=self._now_s())))

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _done(self, actions: Iterable[OwnerAction]) -> tuple[OwnerReply, ...]:
        """Do what is to be done here, and give what is said to whoever has spoken."""
        replies: list[OwnerReply] = []
        for action in actions:
            match action:
                case AppendValue(key=key, value=value):
                    put = self._store.put_logged(unpack_result(key, value))
                    put.add_done_callback(partial(self._logged, action))
                case WakeListener(cell=cell):
                    self._wake(cell)
                case _:
                    replies.append(action)
        return tuple(replies)

    def _wake(self, cell: str) -> None:
        waiting = self._listeners.get(cell)
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    def _logged(self, action: AppendValue, put: asyncio.Future[ResultRow | None]) -> None:
        self._error = self._error or put.exception()
        if self._error is not None:
            for cell in self._listeners:
                self._wake(cell)
            return
        first = put.result()
        value = action.value if first is None else pack_result(first)
        self._done(self._book.handle(ValueLogged(self._now_s(), action.key, value)))

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
