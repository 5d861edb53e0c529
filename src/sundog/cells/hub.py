"""The driver's side of a run on many machines: it starts cells, leases them the rows, and reads what they have done.

Owns the lines to the cells and the sealing of logs; which cell has which rows is decided in cluster.leases. What is
true is in the cells' logs: a part has ended once its rows are read from there.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from uuid import uuid4

from sundog.cells.handing import ServerHands, SetServers
from sundog.cells.messages import (
    CellEnded,
    CellLost,
    CellNews,
    CellStarter,
    CellTask,
    CellWord,
    RowsAwaited,
    StopCell,
    WorkPart,
)
from sundog.cells.remote_feed import BucketRows
from sundog.cells.run_scaling import RunScaling, ServersTold
from sundog.cells.seats import COUNTED, CellSeat, HubBucket, summed
from sundog.cells.sharing import RunShares, SharesTold
from sundog.cluster.lease_events import (
    BucketAdded,
    CellBeat,
    CellGone,
    CellJoined,
    CountRows,
    DropPart,
    LeaseAction,
    LeaseEnded,
    LeaseEvent,
    LeasePart,
    LeaseTimePassed,
    SealLog,
    SplitPart,
)
from sundog.cluster.leases import DEAD_AFTER_S, LeaseBook
from sundog.cluster.share_events import SetShare
from sundog.errors import RunError
from sundog.runtime.feed import too_many_failures
from sundog.runtime.figures.progress import Progress
from sundog.runtime.figures.told import FiguresTold, ToldFigures
from sundog.runtime.row_work import WorkedRun

TICK_S = 0.5
READ_EVERY_S = 1.0
MAX_STARTS = 3
"""Cells at one place that end one after the other before one of them has ended a part."""
END_S = 60.0
"""A cell that was told to end has so long for it."""


class CellHub:
    """The cells of one run. `task`: theirs, but for their shares of engines and limits. `on_rows`: called after rows of
    cells have been read into the store."""

    def __init__(
        self,
        task: CellTask,
        starter: CellStarter,
        shares: RunShares,
        run: WorkedRun,
        on_rows: Callable[[], None],
        scaling: RunScaling,
        figures: ToldFigures,
    ) -> None:
        assert run.store.cache is not None, "the state lies at a URL"
        self._task = task
        self._starter = starter
        self._shares = shares
        self._hands = ServerHands(run.plan, task.num_cells, scaling.watch_of, self._tell_servers)
        self._scaling = scaling
        self._figures = figures
        self._run = run
        self._cache = run.store.cache
        self._before = {name: getattr(run.figures.progress, name) for name in COUNTED}
        self._gone_progress: list[Progress] = []
        self._on_rows = on_rows
        self._book = LeaseBook(DEAD_AFTER_S)
        self._awake_s = 0.0
        self._buckets: list[HubBucket] = []
        self._num_open: defaultdict[str, int] = defaultdict(int)
        self._num_awaiting: defaultdict[str, int] = defaultdict(int)
        self._seats: dict[str, CellSeat] = {}
        self._sealing: dict[str, asyncio.Task[None]] = {}
        self._starts: defaultdict[int, int] = defaultdict(int)
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._is_stopping = False
        self._failure: BaseException | None = None

    async def add_bucket(self, rows: BucketRows) -> None:
        """Keep a bucket's rows where all cells see them, and lease them."""
        number, table, num_rows = len(self._buckets), rows.table, rows.num_rows
        bucket = HubBucket(rows, f"{self._task.scratch}/{number:06}.parquet")
        self._buckets.append(bucket)
        self._num_open[table] += num_rows
        await asyncio.to_thread(self._cache.put_scratch, bucket.name, rows.body)
        self._handle(BucketAdded(self._awake_s, number, num_rows))

    async def when_ended(self, table: str) -> int:
        """Return once all buckets of a table have ended, or the run stops, with how many rows wait for a person."""
        while self._num_open[table] and not (self._is_stopping and not self._seats):
            self._changed.clear()
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure
        return self._num_awaiting[table]

    def stop(self, reason: BaseException | None = None) -> None:
        """Have no row begin any more; the first reason counts."""
        self._failure = self._failure or reason
        if not self._is_stopping:
            self._is_stopping = True
            for seat in self._seats.values():
                self._tell(seat, StopCell())
        self._changed.set()

    async def begin(self) -> None:
        """Start cells. SundogError where none can be started."""
        await asyncio.to_thread(self._cache.put_scratch, self._task.probe, b"seen by all")
        self._spawn(self._starter.watch())
        self._task = replace(self._task, owners=await self._starter.start_owners(self._task))
        await asyncio.gather(*(self._start(place) for place in range(self._task.num_cells)))
        self._spawn(self._hands.follow())
        self._spawn(self._tick())
        self._spawn(self._read_often())

    async def close(self) -> None:
        """Let the cells end, read all that they have done, and drop the buckets."""
        self._is_stopping = True
        for seat in self._seats.values():
            self._tell(seat, StopCell())
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                while self._seats:
                    self._changed.clear()
                    await self._changed.wait()
        for seat in list(self._seats.values()):
            seat.line.end()
            self._handle(CellGone(self._awake_s, seat.name))
        await asyncio.gather(*self._sealing.values())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._starter.end_owners()
        # The owners' logs have ended. None is sealed here: a driver that has replaced this one has cells of its own.
        names = await asyncio.to_thread(self._cache.logs_beside, self._task.command)
        await asyncio.to_thread(self._cache.read, names)
        await asyncio.to_thread(self._cache.drop_scratch, self._task.scratch)
        self._on_rows()

    def _spawn(self, work: Awaitable[None]) -> None:
        """Do something beside; a failure of it ends the run."""

        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                self.stop(error)

        task = asyncio.ensure_future(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, place: int) -> None:
        self._starts[place] += 1
        name = f"cell-{place}-{uuid4().hex[:8]}"
        plan = self._shares.join(name, place)
        line = await self._starter.start(replace(self._task, plan=plan), name)
        seat = self._seats[name] = CellSeat(place, name, line)
        self._handle(CellJoined(self._awake_s, name))
        self._spawn(self._follow(seat))
        self._hands.join(name)
        if self._is_stopping:
            self._tell(seat, StopCell())

    async def _follow(self, seat: CellSeat) -> None:
        """Hear a cell until it has ended or is taken for dead, and put another one in its place."""
        hearing = asyncio.ensure_future(self._hear_all(seat))
        gone = asyncio.ensure_future(seat.is_gone.wait())
        try:
            await asyncio.wait([hearing, gone], return_when=asyncio.FIRST_COMPLETED)
            if hearing.done():
                hearing.result()
        finally:
            hearing.cancel()
            gone.cancel()
        if seat.name in self._seats:
            self._handle(CellGone(self._awake_s, seat.name))
        seat.line.end()
        if seat.ended is not None and seat.ended.error is not None:
            self.stop(seat.ended.error)
        await self._sealing[seat.name]
        if not self._is_stopping:
            if not seat.has_ended_part and self._starts[seat.place] >= MAX_STARTS:
                raise RunError(
                    f"{MAX_STARTS} cells of the run have ended one after the other before they had done anything",
                    hint="see their output in the logs of Ray; the same command continues the run",
                )
            await self._start(seat.place)

    async def _hear_all(self, seat: CellSeat) -> None:
        """Hear a cell until it has ended, or its line is cut."""
        with suppress(CellLost):
            while seat.ended is None:
                await self._hear(seat, await seat.line.news())

    async def _hear(self, seat: CellSeat, news: CellNews) -> None:
        if any(isinstance(said, LeaseEnded) for said in news.says):
            await self._read([seat])
        if seat.name not in self._seats:
            # It was taken for dead meanwhile, and its parts are others' now.
            return
        seat.progress = news.progress
        self._count()
        for said in news.says:
            match said:
                case SharesTold():
                    self._tell_shares(self._shares.hear(seat.name, said))
                case ServersTold():
                    self._scaling.hear(seat.name, said)
                case FiguresTold():
                    self._figures.hear(seat.name, seat.place, said, asyncio.get_running_loop().time())
                case RowsAwaited(table=table, row_ids=row_ids):
                    self._num_awaiting[table] += len(row_ids)
                case CellEnded():
                    seat.ended = said
                    return
                case _:
                    self._handle(replace(said, time_s=self._awake_s))
        self._handle(CellBeat(self._awake_s, seat.name, news.begun))

    def _handle(self, event: LeaseEvent) -> None:
        """Tell the book what has happened, and do what it says."""
        for action in self._book.handle(event):
            self._act(action)

    def _act(self, action: LeaseAction) -> None:
        seat = self._seats[action.cell]
        match action:
            case LeasePart():
                self._spawn(self._lease(seat, action))
            case SplitPart() | DropPart():
                self._tell(seat, action)
            case CountRows():
                seat.has_ended_part = True
                self._starts[seat.place] = 1
                self._num_open[self._buckets[action.part.bucket].table] -= action.num_rows
                self._changed.set()
            case SealLog():
                self._retire(seat)

    async def _lease(self, seat: CellSeat, lease: LeasePart) -> None:
        """Tell a lease once the logs of those that are gone are sealed and read."""
        await asyncio.gather(*(self._sealing[cell] for cell in lease.gone))
        bucket = self._buckets[lease.part.bucket]
        await self._send(seat, (WorkPart(lease, bucket.table, bucket.name, bucket.is_split, bucket.partition),))

    def _retire(self, seat: CellSeat) -> None:
        """Let a cell that is gone, or taken for dead, write nothing more, and take in what it has done."""
        del self._seats[seat.name]
        seat.is_gone.set()
        self._gone_progress.append(seat.progress)
        self._sealing[seat.name] = asyncio.ensure_future(self._seal(seat))

    async def _seal(self, seat: CellSeat) -> None:
        await asyncio.to_thread(self._cache.seal, self._task.log_of(seat.name))
        await self._starter.tell_gone(seat.name)
        run = self._run
        self._hands.gone(seat.name)
        self._scaling.gone(seat.name)
        self._tell_shares(self._shares.gone(seat.name, run.store, run.record.run_id))
        self._on_rows()
        self._changed.set()

    def _tell(self, seat: CellSeat, word: CellWord) -> None:
        self._spawn(self._send(seat, (word,)))

    def _tell_shares(self, words: Iterable[SetShare]) -> None:
        for word in words:
            seat = self._seats.get(word.cell)
            if seat is not None:
                self._tell(seat, word)

    def _tell_servers(self, word: SetServers) -> None:
        seat = self._seats.get(word.cell)
        if seat is not None:
            self._tell(seat, word)

    async def _send(self, seat: CellSeat, words: tuple[CellWord, ...]) -> None:
        with suppress(CellLost):  # whoever follows the cell sees that too
            await seat.line.tell(words)

    async def _tick(self) -> None:
        """Let time pass for the book. A driver that was stopped itself hears its cells before it takes one for dead."""
        while True:
            await asyncio.sleep(TICK_S)
            self._awake_s += TICK_S
            self._handle(LeaseTimePassed(self._awake_s))
            words, reached = self._shares.due()
            self._tell_shares(words)
            if reached is not None:
                self.stop(reached)
            self._scaling.due(self._awake_s, self._run.figures.progress, sum(self._num_open.values()))

    async def _read_often(self) -> None:
        while True:
            await asyncio.sleep(READ_EVERY_S)
            await self._read(list(self._seats.values()))

    async def _read(self, seats: Iterable[CellSeat]) -> None:
        await asyncio.to_thread(self._cache.read, [self._task.log_of(seat.name) for seat in seats])
        self._on_rows()

    def _count(self) -> None:
        living = [seat.progress for seat in self._seats.values()]
        for name, of_cells in summed([*self._gone_progress, *living]).items():
            setattr(self._run.figures.progress, name, self._before[name] + of_cells)
        num_failed, max_errors = self._run.figures.progress.num_failed, self._run.options.max_errors
        if max_errors is not None and num_failed > max_errors and not self._is_stopping:
            self.stop(too_many_failures(num_failed, max_errors, self._task.record.run_id))
