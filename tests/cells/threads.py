"""Cells in threads of this process, each with a cache of its own: what carries words on a cluster, without one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from sundog.cells.cell import Cell
from sundog.cells.messages import CellLine, CellLost, CellNews, CellTask, CellWord
from sundog.cells.owning.host import OwnerHost, hosted_owner
from sundog.cells.owning.line import LineLost, OwnerLine
from sundog.cluster.asking import OwnerReply
from sundog.cluster.owner_events import AskerBeat, BatchAsked, NewsAsked
from sundog.execution.calls.guard import run_loop
from sundog.store.segments.cache import open_cache
from sundog.store.segments.storage import ObjectStorage

T = TypeVar("T")


class ThreadLine:
    """A line to a cell of this process. `cut` loses it, as where its machine does not answer."""

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.is_cut = False
        self.is_silent = False

    async def tell(self, words: tuple[CellWord, ...]) -> None:
        if self.is_cut:
            raise CellLost
        if not self.is_silent:
            self.cell.hear(words)

    async def news(self) -> CellNews:
        if self.is_cut:
            raise CellLost
        news = await self.cell.news()
        if self.is_silent:
            await asyncio.Event().wait()
        return news

    def end(self) -> None:
        """Leave the thread to its own end."""


class ThreadOwner:
    """An owner in a thread with a loop of its own, and the line to it. `unheard`: the cells that do not
    reach it any more."""

    def __init__(self, folder: Path, log: str) -> None:
        self._folder = folder
        self._log = log
        self._begun: Future[OwnerHost] = Future()
        self._is_over = asyncio.Event()
        self.num_asked = 0
        self.unheard: set[str] = set()
        threading.Thread(target=lambda: asyncio.run(self._live()), name="owner", daemon=True).start()
        self._host = self._begun.result(10)

    async def ask(self, batch: BatchAsked) -> Sequence[OwnerReply]:
        self.num_asked += len(batch.claims)
        self._reach(batch.cell)
        return await self._there(self._host.ask(batch))

    async def listen(self, asked: NewsAsked, timeout_s: float) -> Sequence[OwnerReply]:
        self._reach(asked.cell)
        return await self._there(self._host.listen(asked, timeout_s))

    async def beat(self, beat: AskerBeat) -> Sequence[OwnerReply]:
        self._reach(beat.cell)
        return await self._there(self._host.beat(beat))

    async def gone(self, cell: str) -> None:
        async def tell() -> None:
            self._host.gone(cell)

        await self._there(tell())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._is_over.set)
        self._ended.result(30)

    def _reach(self, cell: str) -> None:
        if cell in self.unheard:
            raise LineLost

    async def _there(self, said: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(said, self._loop))

    async def _live(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), Future[None]()
        try:
            async with hosted_owner(self._folder, self._log) as host:
                self._begun.set_result(host)
                await self._is_over.wait()
        except BaseException as error:
            self._ended.set_exception(error)
            raise
        self._ended.set_result(None)


class ThreadStarter:
    """Starts cells and owners in threads, with caches in a folder."""

    def __init__(self, caches: Path, num_owners: int = 2) -> None:
        self.num_owners = num_owners
        self.owners: list[ThreadOwner] = []
        self.lines: dict[str, ThreadLine] = {}
        self.threads: list[threading.Thread] = []
        self._caches = caches

    async def watch(self) -> None:
        await asyncio.Event().wait()

    async def start_owners(self, task: CellTask) -> tuple[OwnerLine, ...]:
        self.owners = [
            ThreadOwner(self._cache_of(task, f"owner-{uuid4().hex}"), f"{task.command}.owner-{place}-{uuid4().hex}")
            for place in range(self.num_owners)
        ]
        return tuple(self.owners)

    async def tell_gone(self, name: str) -> None:
        for owner in self.owners:
            await owner.gone(name)

    async def end_owners(self) -> None:
        for owner in self.owners:
            await asyncio.to_thread(owner.close)

    async def start(self, task: CellTask, name: str) -> CellLine:
        def open_state(url: str) -> Path:
            return self._cache_of(task, name)

        cell = Cell(task, name, open_state)
        thread = threading.Thread(target=lambda: run_loop(cell.run()), name=name, daemon=True)
        thread.start()
        self.threads.append(thread)
        line = self.lines[name] = ThreadLine(cell)
        return line

    def _cache_of(self, task: CellTask, name: str) -> Path:
        state = open_cache(ObjectStorage(task.state), self._caches / name)
        state.catch_up()
        return state.folder
