"""The feed of a table whose rows cells run: it cuts them into buckets, and waits until all have ended.

Owns the buckets of one table. Who works on them is the hub's affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from sundog.execution.input_row import IdentifiedRows
from sundog.ir.templates.template import Path as ValuePath
from sundog.runtime.buckets.cutting import Border, BucketCutter, BucketSizes, GroupKey, GroupKeys
from sundog.runtime.buckets.files import pack_rows
from sundog.runtime.feed import interrupted
from sundog.runtime.row_window import bytes_of
from sundog.store.store import Store


@dataclass(frozen=True, slots=True)
class BucketRows:
    """The rows of one bucket."""

    table: str
    #: As `pack_rows` writes them.
    body: bytes
    num_rows: int
    #: It has only a part of a group of equal partition values.
    is_split: bool
    #: The value by which the rows are cut, None where they lie anywhere.
    partition: ValuePath | None


class BucketTaker(Protocol):
    """This class has the buckets of a run worked on."""

    async def add_bucket(self, rows: BucketRows) -> None:
        """Keep a bucket's rows and let cells have them."""
        ...

    async def when_ended(self, table: str) -> int:
        """Return once all buckets of a table have ended, or the run stops: the number of rows that wait for a
        person."""
        ...

    def stop(self, reason: BaseException | None = None) -> None:
        """Have no row begin any more. The first reason counts."""
        ...


class RemoteFeed:
    """A RowFeed. Its buckets are as large as the rows of the table want it, if `expect` says how many there are."""

    def __init__(
        self,
        table: str,
        run_id: str,
        store: Store,
        taker: BucketTaker,
        num_cells: int,
    ) -> None:
        self._table = table
        self._run_id = run_id
        self._store = store
        self._taker = taker
        self._num_cells = num_cells
        self._num_rows: int | None = None
        self._is_stopping = False
        self._failure: BaseException | None = None
        self.num_awaiting = 0
        self.num_started = 0
        self.listeners: list[asyncio.Event] = []

    def expect(self, num_rows: int) -> None:
        """Take note that so many rows are left to run."""
        self._num_rows = num_rows

    def stop(self, reason: BaseException | None = None) -> None:
        """Have no row begin any more; those that run end. The first reason counts."""
        self._failure = self._failure or reason
        self._is_stopping = True
        self._taker.stop(reason)

    async def run(self, batches: AsyncIterator[IdentifiedRows], order: Sequence[ValuePath] = ()) -> None:
        """Have all rows run that have not ended; raises what stopped the run, if anything did."""
        sizes = BucketSizes.for_cells(self._num_rows, self._num_cells)
        cutter, keys = BucketCutter(sizes), GroupKeys(order)
        rows: IdentifiedRows = []
        groups: list[GroupKey] = []
        was_split = False
        async for batch in batches:
            ended = self._store.finished_rows(self._run_id, self._table, (row_id for row_id, _ in batch))
            for row_id, row in batch:
                if row_id in ended:
                    continue
                key = keys.key(row)
                border = cutter.border(key, bytes_of(row))
                if rows and border is not Border.NONE:
                    await self._add(rows, groups, order, is_split=was_split or border is Border.SPLIT)
                    rows, groups, was_split = [], [], border is Border.SPLIT
                rows.append((row_id, row))
                groups.append(key)
            if self._is_stopping:
                break
        if rows and not self._is_stopping:
            await self._add(rows, groups, order, is_split=was_split)
        self.num_awaiting = await self._taker.when_ended(self._table)
        if self._failure is not None:
            raise self._failure
        if self._is_stopping:
            raise interrupted()

    async def _add(
        self, rows: IdentifiedRows, groups: Sequence[GroupKey], order: Sequence[ValuePath], *, is_split: bool
    ) -> None:
        self.num_started += len(rows)
        body = await asyncio.to_thread(pack_rows, rows, groups)
        partition = order[0] if order else None
        await self._taker.add_bucket(BucketRows(self._table, body, len(rows), is_split, partition))
