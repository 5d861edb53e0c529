"""The course of a run over its tables: each begins when those that its query reads have ended.

Owns when a table begins and ends. Never runs a step; the feeds do.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sundog.execution.input_row import IdentifiedRows
from sundog.ir.logical import Table
from sundog.ir.physical import PhysicalPlan, TableExec
from sundog.ir.row_ids import RowId
from sundog.ir.sql_types import SQLType
from sundog.ir.tables import InputRows
from sundog.ir.templates.template import Path as ValuePath
from sundog.runtime.feed import awaiting, interrupted
from sundog.runtime.figures.progress import Progress
from sundog.runtime.row_order import reading_order_of
from sundog.runtime.row_work import RowFeed
from sundog.runtime.rows.inputs import RowSource
from sundog.runtime.rows.values.decoding import note_nulled
from sundog.runtime.tables.flow_inputs import FlowInputs
from sundog.runtime.tables.table_files import TableFiles
from sundog.store.runs import MADE_TABLES
from sundog.store.segments.run_files import keep_files_meanwhile
from sundog.store.store import Store

if TYPE_CHECKING:
    from sundog.runtime.buckets.kept import KeptBuckets
    from sundog.runtime.tables.candidates import ToldPairs

OnNote = Callable[[str], None]
"""Called with a sentence for whoever watches the run."""


@dataclass(frozen=True, slots=True)
class ReadRows:
    """The rows of a table in the order in which they are read."""

    #: The values by which they are read, none where they come as they are.
    order: tuple[ValuePath, ...]
    num_rows: int
    batches: AsyncIterator[IdentifiedRows]


def unheard(note: str) -> None:
    """Do nothing: nobody watches."""


class TableCourse:
    """The tables of one run. `on_begin` hears of each, with the number of its rows that have not ended."""

    def __init__(
        self,
        plan: PhysicalPlan,
        inputs: FlowInputs,
        feeds: Mapping[str, RowFeed],
        store: Store,
        run_id: str,
        files: TableFiles,
        progress: Progress,
        on_begin: Callable[[str, int], None],
    ) -> None:
        self._plan = plan
        self._inputs = inputs
        self._feeds = feeds
        self._store = store
        self._run_id = run_id
        self._files = files
        self._progress = progress
        self._on_begin = on_begin
        self._num_rows: dict[str, int] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        #: How many tables have yet to read a relation.
        self._num_readers = Counter(
            name
            for table in plan.tables
            if not isinstance(table.table.source, InputRows)
            for name in set(table.table.reads)
        )
        self._tables: dict[str, asyncio.Task[None]] = {}
        #: These wake the tables whose rows come from others.
        self._changed: list[asyncio.Event] = []
        #: The tables that wait for others to end.
        self._waiting: set[str] = set()
        self._ended = {table.name: asyncio.Event() for table in plan.tables}
        #: Sentences about values that changed in rows which flowed from table to table.
        self.notes: list[str] = []
        #: The tables that cannot end before a person answers, for a row of theirs or of one that they read.
        self._held: set[str] = set()
        self._failure: BaseException | None = None
        self._is_stopping = False
        self._on_note: OnNote = unheard

    def stop(self, reason: BaseException | None = None) -> None:
        """Begin no table more and no row more; what runs ends. The first reason counts."""
        self._failure = self._failure or reason
        self._is_stopping = True
        for feed in self._feeds.values():
            feed.stop(reason)
        for name in self._waiting:
            self._tables[name].cancel()
        for changed in self._changed:
            changed.set()
        if any(not isinstance(table.table.source, InputRows) for table in self._plan.tables):
            self._inputs.relations.interrupt()

    async def run(self, on_note: OnNote) -> None:
        """Run all rows of all tables; raises what stopped the run first, if anything did. AnswersAwaited where rows are
        left that a person has to answer for. `on_note` hears what calls will be for, before the first of them."""
        self._on_note = on_note
        for table in self._plan.tables:
            self._tables[table.name] = asyncio.ensure_future(self._until_stopped(table))
        try:
            await asyncio.wait(self._tables.values())
        except asyncio.CancelledError:
            tasks = (*self._tables.values(), *self._loads.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise
        if self._failure is not None:
            raise self._failure
        if self._is_stopping:
            raise interrupted()
        if self._held:
            # Some may have been answered meanwhile, and some questions are shared.
            left = self._store.awaited(self._run_id)
            raise awaiting(len({one.row for one in left}), len({one.key for one in left}), self._run_id)
        await asyncio.to_thread(self._files.drop_buckets)

    async def _until_stopped(self, table: TableExec) -> None:
        try:
            await self._run_table(table)
        except Exception as error:
            # A query that the stop interrupted fails too.
            if not self._is_stopping:
                self.stop(error)

    async def _run_table(self, table: TableExec) -> None:
        if self._is_stopping:
            return
        self._waiting.add(table.name)
        for name in table.waits_for:
            await self._ended[name].wait()
        self._waiting.discard(table.name)
        if self._held.isdisjoint(table.waits_for):
            await self._run_rows(table)
        if self._feeds[table.name].num_awaiting or not self._held.isdisjoint((*table.waits_for, *table.table.reads)):
            self._held.add(table.name)
        self._ended[table.name].set()
        for changed in self._feeds[table.name].listeners:
            changed.set()

    async def _run_rows(self, table: TableExec) -> None:
        if table.stream_of is None:
            await self._run_counted(table)
        else:
            await self._run_stream(table, table.stream_of)

    async def _run_counted(self, table: TableExec) -> None:
        """Run a table whose rows are all there."""
        if isinstance(table.table.source, InputRows):
            rows = self._inputs.source(table.table)
        else:
            rows = await self._made(table)
        read = await self._read(table, rows)
        if not isinstance(table.table.source, InputRows):
            await self._drop_unread(table)
        self._count(table.name, read.num_rows)
        ended = sum(number for (name, _), number in self._store.count_rows(self._run_id).items() if name == table.name)
        self._on_begin(table.name, read.num_rows - ended)
        await self._feeds[table.name].run(read.batches, read.order)

    async def _read(self, table: TableExec, rows: RowSource) -> ReadRows:
        """Return the rows of a table as they are read: from its buckets where the run keeps such."""
        kept = None
        if self._files.num_buckets is not None:
            from sundog.runtime.buckets.kept import kept_buckets  # what reads Parquet, which few flows have

            kept = await asyncio.to_thread(kept_buckets, self._files.buckets(table.name))
        if kept is None:
            order = await asyncio.to_thread(reading_order_of, table.table, rows, self._plan.max_rows_in_flight)
            taken = await self._taken(table, rows)
            if table.table.candidates is not None:
                await self._tell_pairs(table.table, rows, taken)
            num_rows = await asyncio.to_thread(rows.count) if taken is None else len(taken)
            batches = _identified(rows, order, taken)
            if self._files.num_buckets is None:
                return ReadRows(order, num_rows, batches)
            kept = await self._written(table.name, num_rows, order, batches)
        return ReadRows(kept.order, kept.num_rows, kept.batches(partial(self._have_ended, table.name)))

    async def _written(
        self, table: str, num_rows: int, order: Sequence[ValuePath], batches: AsyncIterator[IdentifiedRows]
    ) -> KeptBuckets:
        """Write the rows of a table into buckets. RunStopped where the run stops meanwhile."""
        from sundog.runtime.buckets.kept import BucketMaker  # as above

        assert self._files.num_buckets is not None, "buckets were asked for"
        num_rows_of_bucket = max(1, -(-num_rows // self._files.num_buckets))
        with BucketMaker(self._files.buckets(table), num_rows_of_bucket, order) as maker:
            async for batch in batches:
                if self._is_stopping:
                    raise interrupted()
                await asyncio.to_thread(maker.add, batch)
            return await asyncio.to_thread(maker.finish)

    def _have_ended(self, table: str, row_ids: Sequence[RowId]) -> bool:
        return len(self._store.finished_rows(self._run_id, table, row_ids)) == len(row_ids)

    async def _taken(self, table: TableExec, rows: RowSource) -> frozenset[int] | None:
        """Return the numbers of the rows that are wanted, None for all."""
        if table.table.take is None:
            return None
        from sundog.runtime.tables.wanted_rows import wanted_rows  # what reads queries, which few flows have

        found: list[frozenset[int] | None] = []
        await self._with_room(
            lambda: found.append(wanted_rows(table.table, table.columns, rows, self._inputs.relations))
        )
        return found[-1]

    async def _tell_pairs(self, table: Table, rows: RowSource, taken: frozenset[int] | None) -> None:
        from sundog.runtime.tables.candidates import keep_told, told_pairs  # as above

        found: list[ToldPairs] = []
        await self._with_room(lambda: found.append(told_pairs(table, rows, taken, self._inputs.relations)))
        keep_told(found[-1], table.name, self._files.made)
        for text in (found[-1].note, *(f"warning: {one}" for one in found[-1].warnings)):
            self._on_note(text)

    async def _run_stream(self, table: TableExec, stream: str) -> None:
        """Run a table whose rows come as those of `stream` end."""
        from sundog.runtime.tables.stream import Pump, RowWiseQuery  # what reads queries, which few flows have

        await self._load_sources(table)
        query = RowWiseQuery(table, stream, _columns_of(self._plan.table(stream)), self._inputs.relations)
        changed, feed = asyncio.Event(), self._feeds[table.name]
        self._changed.append(changed)
        self._feeds[stream].listeners.append(changed)

        def has_ended() -> bool:
            return self._is_stopping or self._ended[stream].is_set()

        pump = Pump(query, self._store, self._run_id, table.table, stream, changed, has_ended)
        await feed.run(pump.batches())
        await self._drop_unread(table)
        nulled = query.nulled.items()
        self.notes += [f"table '{table.name}': {note_nulled(name, count)}" for name, count in nulled if count]
        self._count(table.name, pump.num_rows)
        self._on_begin(table.name, feed.num_started)

    async def _made(self, table: TableExec) -> RowSource:
        """Run the query of a table, unless that was done before, and return its rows."""
        from sundog.runtime.tables.made import made_rows  # as above

        await self._load_sources(table)
        await self._with_room(partial(self._make, table))
        await keep_files_meanwhile(self._store, self._run_id, self._files.run_folder, MADE_TABLES)
        return made_rows(table.table, self._files.made)

    def _make(self, table: TableExec) -> None:
        from sundog.runtime.tables.failed_sources import with_failed
        from sundog.runtime.tables.made import make, make_marked  # as above

        relations = self._inputs.relations
        if table.table.failed_rows == "mark":
            source = self._plan.table(table.table.reads[-1])
            rows = with_failed(source.table, self._store, self._run_id, table.name)
            make_marked(table.table, _columns_of(source), rows, relations, self._files.made)
        else:
            make(table.table, relations, self._files.made)

    async def _load_sources(self, table: TableExec) -> None:
        """Load what a query reads but for what flows into it."""
        from sundog.runtime.tables.failed_sources import check_failures  # as above

        sources = [name for name in table.table.reads if name in self._ended and name != table.stream_of]
        check_failures(self._plan, table, sources, self._store, self._run_id)
        if table.table.failed_rows == "mark":
            return
        for name in sources:
            if name not in self._loads:
                self._loads[name] = asyncio.ensure_future(self._with_room(partial(self._load, self._plan.table(name))))
            await asyncio.shield(self._loads[name])
        for name in table.table.reads:
            if name not in self._ended:
                await asyncio.to_thread(self._inputs.relations.load_input, name)

    async def _with_room(self, work: Callable[[], None]) -> None:
        await asyncio.to_thread(self._inputs.relations.with_room, work)

    async def _drop_unread(self, table: TableExec) -> None:
        """Drop the relations that `table` is the last to read."""
        for name in set(table.table.reads):
            self._num_readers[name] -= 1
            if not self._num_readers[name] and name != table.stream_of:
                await asyncio.to_thread(self._inputs.relations.drop, name)

    def _load(self, table: TableExec) -> None:
        rows = self._store.rows(self._run_id, table.name, "done")
        self._inputs.relations.load(table.name, _columns_of(table), (body for _, body in rows))

    def _count(self, table: str, num_rows: int) -> None:
        self._num_rows[table] = num_rows
        if len(self._num_rows) == len(self._plan.tables):
            self._progress.num_rows = sum(self._num_rows.values())


def _columns_of(table: TableExec) -> tuple[tuple[str, SQLType], ...]:
    return tuple((column.name, column.type) for column in table.columns)


async def _identified(
    rows: RowSource, order: tuple[tuple[str, ...], ...], taken: frozenset[int] | None
) -> AsyncIterator[IdentifiedRows]:
    batches = rows.batches(order=order)
    while batch := await asyncio.to_thread(next, batches, None):
        yield [((number,), row) for number, row in batch if taken is None or number in taken]
