"""A cell: one process's part of a run on many machines. It works on the rows of the parts that it is leased.

Owns the order of its steps, from the state that it opens to the log that it closes. What carries words to and from it
calls `hear` and `news`, from other threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, nullcontext
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

from sundog.cells.cell_exchange import AskedCalls
from sundog.cells.handing import CellServers, SetServers
from sundog.cells.held_parts import HeldPart, HeldParts
from sundog.cells.mailbox import Mailbox
from sundog.cells.messages import CellEnded, CellNews, CellSays, CellTask, CellWord, RowsAwaited, StopCell, WorkPart
from sundog.cells.owning.client import ExchangeClient, keeping_in
from sundog.cells.run_scaling import servers_told
from sundog.cells.sharing import CellShares
from sundog.cluster.lease_events import CellAsked, DropPart, LeaseEnded, PartSplit, SplitPart
from sundog.cluster.share_events import SetShare
from sundog.deployment import engine_limits
from sundog.errors import StoreError, SundogError
from sundog.execution.coming_replicas import ComingReplicas
from sundog.execution.input_row import IdentifiedRows
from sundog.execution.pool_shares import PoolShares
from sundog.execution.row_way import RowEnd
from sundog.ir.logical import steps_of
from sundog.ir.pool_names import engine_pool
from sundog.ir.row_ids import RowRef
from sundog.operators.base import OPERATORS
from sundog.runtime.buckets.files import BucketFile
from sundog.runtime.feed import Feed
from sundog.runtime.figures.run_figures import RunFigures
from sundog.runtime.figures.told import TELL_EVERY_S, tell_figures
from sundog.runtime.limits import RunLimits
from sundog.runtime.local_work import local_work
from sundog.runtime.row_work import WorkedRun
from sundog.secrets import Secrets
from sundog.store.segments.opened import StateCache
from sundog.store.segments.run_files import keep_files_meanwhile
from sundog.store.segments.sending import Overtaken
from sundog.store.store import Store

NEWS_EVERY_S = 0.5
MIN_ROWS_AHEAD = 32
ROWS_AHEAD_OF_A_PLACE = 2
"""A cell asks for rows as soon as it holds fewer that have not begun: so many for each call that its engines take."""


class Cell:
    """One cell. `open_state`: gives the folder of a cache of the state at a URL."""

    def __init__(self, task: CellTask, name: str, open_state: Callable[[str], Path]) -> None:
        self.log = task.log_of(name)
        self._task = task
        self._name = name
        self._open_state = open_state
        self._says: Mailbox[CellSays] = Mailbox()
        self._words: Mailbox[CellWord] = Mailbox()
        self._parts = HeldParts()
        self._files: dict[str, BucketFile] = {}
        self._operators = {step: OPERATORS.get(step)(task.base_dir) for step in _operators(task)}
        self._asked = AskedCalls(task.plan, self._operators, self._parts.is_split)
        self._shares: CellShares | None = None
        self._servers = CellServers(task.plan)
        self._pools: PoolShares | None = None
        self._coming: ComingReplicas | None = None
        plan = task.plan
        self._figures = RunFigures({engine_pool(block.name): block.options["model"] for block in plan.logical.engines})
        num_places = sum(number * options.max_concurrency for _, number, options in engine_limits(plan))
        self._rows_ahead = max(MIN_ROWS_AHEAD, ROWS_AHEAD_OF_A_PLACE * num_places)
        self._queues: dict[str, asyncio.Queue[HeldPart | None]] = {}
        self._num_asked = self._num_answered = 0
        self._is_stopping = False

    def hear(self, words: tuple[CellWord, ...]) -> None:
        """Take words from the driver."""
        self._words.put(*words)

    async def news(self) -> CellNews:
        """Return the news since the last ones, after half a second at the latest, also where the cell's own loop is
        busy for longer."""
        says = await self._says.take(NEWS_EVERY_S)
        return CellNews(self._parts.beat(), says, copy(self._figures.progress))

    async def run(self) -> None:
        """Do the task until the driver says that it is done; then say that it has ended. Never raises."""
        error: SundogError | None = None
        try:
            await self._work()
        except Overtaken:
            """Another cell has its rows: the driver took this one for dead."""
        except SundogError as failure:
            error = failure
        except Exception as failure:
            error = StoreError(f"a cell failed: {type(failure).__name__}: {failure}", where=self._name)
        self._tell_figures()
        self._says.put(CellEnded(error))

    async def _work(self) -> None:
        task = self._task
        state_dir = await asyncio.to_thread(self._open_state, task.state)
        with closing(Store(state_dir)) as store, store.writing_to(self.log):
            cache = store.cache
            assert cache is not None, "the state of a cell lies at a URL"
            # It has a log by now: a driver that came meanwhile has sealed that, or is seen here.
            await asyncio.to_thread(cache.read, [task.command])
            if cache.epoch(task.command) != task.driver_epoch:
                raise Overtaken(task.command)
            async with self._opened(store, state_dir) as feeds:
                await self._run_feeds(store, cache, feeds)

    @asynccontextmanager
    async def _opened(self, store: Store, state_dir: Path) -> AsyncIterator[dict[str, Feed]]:
        task, secrets = self._task, Secrets(self._task.environment)
        options = replace(task.options, state_dir=state_dir)
        folder = state_dir / "runs" / task.record.run_id / self._name
        limits = RunLimits(task.plan, task.record, options, store, cell=self._name)
        run = WorkedRun(
            task.plan,
            task.record,
            store,
            self._operators,
            secrets,
            options,
            folder,
            self._figures,
            limits,
            task.history,
        )
        store.open_writer()
        try:
            exchange = None
            if task.owners:
                exchange = ExchangeClient(self._name, task.owners, self._asked.asks, keeping_in(store))
            async with (
                nullcontext() if exchange is None else exchange.talking(),
                local_work(
                    run,
                    partial(self._row_ended, store),
                    placing=_no_placing,
                    exchange=exchange,
                    watch_of=self._servers.watch_of,
                ) as work,
            ):
                assert work.pools is not None, "the calls are made here"
                self._pools, self._coming = work.pools, work.coming
                self._shares = CellShares(work.pools, limits, task.plan.shares)
                feeds = {name: feed for name, feed in work.feeds.items() if isinstance(feed, Feed)}
                for name, feed in feeds.items():
                    feed.on_awaited = partial(self._row_awaits, store)
                    self._queues[name] = asyncio.Queue()
                yield feeds
            # The event logs of a cell that is gone are gone with it.
            await keep_files_meanwhile(store, task.record.run_id, folder.parent, f"{self._name}/events-*")
        finally:
            store.close_writer()

    async def _run_feeds(self, store: Store, cache: StateCache, feeds: dict[str, Feed]) -> None:
        listening = asyncio.ensure_future(self._listen(cache))
        running = [asyncio.ensure_future(feed.run(self._batches(name, store))) for name, feed in feeds.items()]
        self._ask()
        try:
            ended, _ = await asyncio.wait([listening, *running], return_when=asyncio.FIRST_COMPLETED)
        finally:
            listening.cancel()
            if self._shares is not None:
                self._shares.let_go()
            for name, feed in feeds.items():
                feed.stop()
                self._queues[name].put_nowait(None)
            await asyncio.gather(listening, *running, return_exceptions=True)
        for one in ended:
            one.result()

    async def _listen(self, cache: StateCache) -> None:
        """Do what the driver says, until it says that this is all."""
        assert self._pools is not None, "it has opened its pools"
        told_s = self._pools.now_s()
        while not self._is_stopping:
            for word in await self._words.take(NEWS_EVERY_S):
                await self._heed(word, cache)
            assert self._shares is not None, "it has opened its pools"
            self._says.put(self._shares.told())
            assert self._coming is not None, "it has opened its pools"
            self._says.put(servers_told(self._coming.num_calls(), self._figures.work))
            if self._pools.now_s() >= told_s + TELL_EVERY_S:
                told_s = self._pools.now_s()
                self._tell_figures()

    def _tell_figures(self) -> None:
        if self._pools is not None:
            flow = self._task.plan.logical.name
            self._says.put(tell_figures(self._figures, flow, self._pools.now_s()))

    async def _heed(self, word: CellWord, cache: StateCache) -> None:
        match word:
            case WorkPart():
                await self._take(word, cache)
            case SplitPart(part=key, at=at):
                part = self._parts.find(key)
                if part is not None:
                    at = part.split(at, self._files[part.work.object])
                    self._says.put(PartSplit(0.0, self._name, key, at))
            case DropPart(part=key):
                if self._parts.find(key) is not None:
                    self._parts.drop(key)
                    self._drop_files()
                    self._ask()
            case SetShare():
                assert self._shares is not None, "it has opened its pools"
                self._shares.hear(word)
            case SetServers():
                assert self._pools is not None, "it has opened its pools"
                self._servers.hear(word, self._pools)
            case StopCell():
                self._is_stopping = True

    async def _take(self, work: WorkPart, cache: StateCache) -> None:
        if work.lease.number <= self._num_answered:
            # It was told again: a beat had crossed it.
            return
        part = self._parts.add(work)
        self._asked.know(work.table, work.partition)
        if work.lease.gone:
            # What those have done who held these rows must not be done again.
            await asyncio.to_thread(cache.read, [self._task.log_of(cell) for cell in work.lease.gone])
        if work.object not in self._files:
            self._files[work.object] = BucketFile(await asyncio.to_thread(cache.scratch, work.object))
        self._num_answered = work.lease.number
        self._queues[work.table].put_nowait(part)
        self._ask()

    def _drop_files(self) -> None:
        """Let go of the rows of buckets of which nothing is held."""
        held = self._parts.objects()
        for name in [name for name in self._files if name not in held]:
            del self._files[name]

    def _ask(self) -> None:
        """Ask for another part where too few rows are left, one question at a time."""
        if self._num_answered == self._num_asked and self._parts.num_left < self._rows_ahead:
            self._num_asked += 1
            self._says.put(CellAsked(0.0, self._name, self._num_asked))

    async def _batches(self, table: str, store: Store) -> AsyncIterator[IdentifiedRows]:
        """Yield the rows of a table that are leased and have not ended, until the cell stops."""
        while (part := await self._queues[table].get()) is not None:
            for piece in part.pieces(self._files[part.work.object]):
                ended = store.finished_rows(self._task.record.run_id, table, (row_id for row_id, _ in piece))
                left = [(row_id, row) for row_id, row in piece if row_id not in ended]
                self._parts.begin(part, (row_id for row_id, _ in left))
                yield left
                self._ask()
            if part.has_ended and not part.is_told:
                await self._tell_end(part, store)

    async def _row_ended(self, store: Store, end: RowEnd) -> None:
        part = self._parts.ended(end.row.table, end.row.row_id)
        if part is not None:
            await self._tell_end(part, store)

    async def _row_awaits(self, store: Store, ref: RowRef) -> None:
        part = self._parts.ended(ref.table, ref.row_id, is_awaited=True)
        if part is not None:
            await self._tell_end(part, store)

    async def _tell_end(self, part: HeldPart, store: Store) -> None:
        """Tell the end of a part once all of it lies in the log."""
        part.is_told = True
        await store.write(awaits_log=True)
        if part.awaited:
            self._says.put(RowsAwaited(part.work.table, tuple(part.awaited)))
        self._says.put(LeaseEnded(0.0, self._name, part.key))


def _no_placing(share: float) -> None:
    """Say that nothing is placed: a run on many machines has no workers."""


def _operators(task: CellTask) -> list[str]:
    return sorted({step.operator for step in steps_of(task.plan.written.nodes)})
