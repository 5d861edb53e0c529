"""The batches of clients of a server, and the ends of their lines.

Owns their tables. A batch is what its row says, also after a crash; a line without an end is worked on again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from sundog.store.files import PUT_FILE, KeptFile
from sundog.store.statements import StoreStatement
from sundog.store.store import Store

OpenStatus = Literal["validating", "in_progress", "finalizing", "cancelling"]
BatchStatus = OpenStatus | Literal["failed", "completed", "cancelled", "expired"]
OPEN: tuple[OpenStatus, ...] = get_args(OpenStatus)
"""A batch with one of these has not ended."""
_PUT_BATCH = StoreStatement("put_batch", f"insert into batches values (null, {', '.join('?' * 17)})")
_CHANGE = StoreStatement(
    "change_batch",
    "update batches set status = ?, times = ?, num_lines = ?, num_completed = ?, num_failed = ?, errors = ?"
    " where batch_id = ?",
)
_PUT_LINE = StoreStatement("put_batch_line", "insert or ignore into batch_lines values {}")
_DROP_LINES = StoreStatement(
    "drop_batch_lines",
    "delete from batch_lines where rowid in"
    " (select rowid from batch_lines where batch_id = ? and is_error = ? limit ?)",
)
_NUM_DROPPED_AT_ONCE = 512
_COLUMNS = (
    "batch_id, principal, input_file_id, endpoint, completion_window, metadata, output_expires_s, output_file_id,"
    " error_file_id, created_at, expires_at, status, times, num_lines, num_completed, num_failed, errors"
)
_METADATA, _TIMES, _ERRORS = (_COLUMNS.split(", ").index(name) for name in ("metadata", "times", "errors"))
"""The columns that hold JSON."""


@dataclass(frozen=True, slots=True)
class KeptBatch:
    """One batch. Times are seconds since the epoch."""

    batch_id: str
    #: The one who made it: the id of a key, "" without keys.
    principal: str
    input_file_id: str
    endpoint: str
    completion_window: str
    #: None where its maker gave none.
    metadata: Mapping[str, str] | None
    #: Seconds from which on its files are gone, counted from when each began; None for no end.
    output_expires_s: float | None
    output_file_id: str
    error_file_id: str
    created_at: float
    expires_at: float
    status: BatchStatus = "validating"
    #: By status, when it began.
    times: Mapping[str, float] = field(default_factory=dict)
    num_lines: int = 0
    #: Lines that have ended well, and others, as counted when the row was last written.
    num_completed: int = 0
    num_failed: int = 0
    #: The errors of its lines for which it has failed, as clients read them.
    errors: Sequence[Mapping[str, Any]] = ()

    @property
    def is_open(self) -> bool:
        return self.status in OPEN


@dataclass(frozen=True, slots=True)
class LineEnd:
    """The end of a line: the line of the output file, or of the error file, that tells of it."""

    #: The number of the line in the input file, from 1.
    number: int
    is_error: bool
    body: bytes


@dataclass(slots=True)
class LineTotals:
    """The sums over the lines of a batch that have ended."""

    num_completed: int = 0
    num_failed: int = 0
    num_output_bytes: int = 0
    num_error_bytes: int = 0

    def add(self, end: LineEnd) -> None:
        """Count an end."""
        if end.is_error:
            self.num_failed += 1
            self.num_error_bytes += len(end.body)
        else:
            self.num_completed += 1
            self.num_output_bytes += len(end.body)


class BatchBook:
    """This class keeps the batches of a state folder."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, batch: KeptBatch) -> asyncio.Future[None]:
        """Keep a new batch; it is accepted, once the future is set."""
        one = batch
        made = (one.batch_id, one.principal, one.input_file_id, one.endpoint, one.completion_window)
        metadata = None if one.metadata is None else json.dumps(one.metadata)
        files = (metadata, one.output_expires_s, one.output_file_id, one.error_file_id, one.created_at, one.expires_at)
        return self._store.write((_PUT_BATCH, (*made, *files, *_changing(one))))

    def change(self, batch: KeptBatch) -> asyncio.Future[None]:
        """Keep how far a batch is."""
        return self._store.write((_CHANGE, (*_changing(batch), batch.batch_id)))

    def find(self, principal: str, batch_id: str) -> KeptBatch | None:
        """Return a batch of somebody."""
        return next(iter(self._select("where batch_id = ? and principal = ?", (batch_id, principal))), None)

    def page(self, principal: str, *, after: str | None, limit: int) -> list[KeptBatch]:
        """Return at most `limit` batches of somebody, the newest first; those behind the batch `after`."""
        rest, values = "where principal = ?", [principal]
        if after is not None:
            rest, values = f"{rest} and number < (select number from batches where batch_id = ?)", [*values, after]
        return self._select(f"{rest} order by number desc limit ?", (*values, limit))

    def open(self) -> list[KeptBatch]:
        """Return the batches that have not ended, in the order in which they came."""
        return self._select(f"where status in {OPEN!r} order by number", ())

    def reader_of(self, file_id: str) -> str | None:
        """Return the id of a batch that has not ended and reads or writes a file; None where there is none."""
        files = "input_file_id, output_file_id, error_file_id"
        query = f"select batch_id from batches where status in {OPEN!r} and ? in ({files}) limit 1"
        found = self._store.select(query, (file_id,))
        return found[0][0] if found else None

    def end_line(self, batch_id: str, end: LineEnd, file: KeptFile | None) -> asyncio.Future[None]:
        """Keep the end of a line, and the file that it is the first one in."""
        files = [] if file is None else [(PUT_FILE, file.values())]
        return self._store.write((_PUT_LINE, (batch_id, end.number, int(end.is_error), end.body)), *files)

    def ended(self, batch_id: str, first: int, last: int) -> set[int]:
        """Return the numbers from `first` to `last` of lines that have ended."""
        query = "select number from batch_lines where batch_id = ? and number between ? and ?"
        return {number for (number,) in self._store.select(query, (batch_id, first, last))}

    def totals(self, batch_id: str) -> LineTotals:
        """Return the sums over the lines that have ended, counted anew."""
        totals = LineTotals()
        query = "select is_error, count(*), sum(length(body)) from batch_lines where batch_id = ? group by is_error"
        for is_error, number, num_bytes in self._store.select(query, (batch_id,)):
            if is_error:
                totals.num_failed, totals.num_error_bytes = number, num_bytes
            else:
                totals.num_completed, totals.num_output_bytes = number, num_bytes
        return totals

    def lines(self, batch_id: str, after: int, limit: int, *, is_error: bool) -> list[tuple[int, bytes]]:
        """Return at most `limit` ends of one kind behind the line `after`, each with its number, in their order."""
        query = (
            "select number, body from batch_lines where batch_id = ? and is_error = ? and number > ?"
            " order by number limit ?"
        )
        return self._store.select(query, (batch_id, int(is_error), after, limit))

    async def drop_lines(self, batch_id: str, *, is_error: bool) -> None:
        """Forget the ends of one kind, a few at a time: other writes go on between them."""
        while self.lines(batch_id, 0, 1, is_error=is_error):
            await self._store.write((_DROP_LINES, (batch_id, int(is_error), _NUM_DROPPED_AT_ONCE)))

    def _select(self, rest: str, values: tuple[Any, ...]) -> list[KeptBatch]:
        found = self._store.select(f"select {_COLUMNS} from batches {rest}", values)
        return [_kept(row) for row in found]


def _changing(batch: KeptBatch) -> tuple[Any, ...]:
    counts = (batch.num_lines, batch.num_completed, batch.num_failed)
    return (batch.status, json.dumps(batch.times), *counts, json.dumps(batch.errors))


def _kept(row: tuple[Any, ...]) -> KeptBatch:
    read: list[Any] = [*row]
    for place in (_METADATA, _TIMES, _ERRORS):
        read[place] = None if read[place] is None else json.loads(read[place])
    return KeptBatch(*read)
