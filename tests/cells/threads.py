"""Cells in threads of this process, each with a cache of its own: what carries words on a cluster, without one."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from sundog.cells.cell import Cell
from sundog.cells.messages import CellLine, CellLost, CellNews, CellTask, CellWord
from sundog.cells.owning.line import OwnerLine
from sundog.execution.calls.guard import run_loop
from sundog.store.segments.cache import open_cache
from sundog.store.segments.storage import ObjectStorage


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


class ThreadStarter:
    """Starts cells in threads, with caches in a folder."""

    def __init__(self, caches: Path) -> None:
        self.lines: dict[str, ThreadLine] = {}
        self.threads: list[threading.Thread] = []
        self._caches = caches

    async def start_owners(self, task: CellTask) -> tuple[OwnerLine, ...]:
        return ()

    async def tell_gone(self, name: str) -> None:
        """There is no owner."""

    async def end_owners(self) -> None:
        """There is none."""

    async def start(self, task: CellTask, name: str) -> CellLine:
        def open_state(url: str) -> Path:
            state = open_cache(ObjectStorage(url), self._caches / name)
            state.catch_up()
            return state.folder

        cell = Cell(task, name, open_state)
        thread = threading.Thread(target=lambda: run_loop(cell.run()), name=name, daemon=True)
        thread.start()
        self.threads.append(thread)
        line = self.lines[name] = ThreadLine(cell)
        return line
