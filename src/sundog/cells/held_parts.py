"""The parts that a cell holds: their rows, as they are read, begun and ended.

Owns the books of one cell. Never runs a row, never sends a word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from sundog.cells.messages import WorkPart
from sundog.cluster.lease_events import PartKey
from sundog.execution.input_row import IdentifiedRows
from sundog.ir.row_ids import RowId, RowRef
from sundog.runtime.buckets.files import BucketFile

PIECE_ROWS = 16
"""Rows that are begun together: those that nobody can steal any more."""


@dataclass(slots=True)
class HeldPart:
    """A part in the hands of a cell."""

    work: WorkPart
    stop: int
    #: The place of the first row that has not begun.
    begun: int
    #: Rows that have begun and not ended.
    open: set[RowId] = field(default_factory=set)
    #: Rows that wait for a person.
    awaited: list[RowId] = field(default_factory=list)
    #: Its end is told, or about to be.
    is_told: bool = False

    @property
    def key(self) -> PartKey:
        return self.work.lease.part

    @property
    def num_left(self) -> int:
        """Return how many rows have not begun."""
        return self.stop - self.begun

    @property
    def has_ended(self) -> bool:
        """Return whether all its rows have begun, and ended or wait for a person."""
        return self.begun >= self.stop and not self.open

    def pieces(self, file: BucketFile) -> Iterator[IdentifiedRows]:
        """Yield the rows that have not begun, a few at a time; they count as begun from then on. Its end may move
        meanwhile."""
        for rows in file.rows(self.begun, self.stop):
            left = iter(rows)
            while piece := list(islice(left, min(PIECE_ROWS, max(0, self.num_left)))):
                self.begun += len(piece)
                yield piece

    def split(self, at: int, file: BucketFile) -> int:
        """Give up the rows from `at` on, or from a later place: where a group of equal prefix values begins, if the
        bucket has whole groups. Gives that place, the end where nothing can be given up."""
        at = max(at, self.begun, self.key.start + 1)
        if at < self.stop and not self.work.is_split:
            # The first one given is a begin only because the search begins there.
            starts = islice(file.group_starts(at - 1, self.stop), 1, None)
            at = next(starts, self.stop)
        self.stop = min(at, self.stop)
        return self.stop


class HeldParts:
    """All parts of a cell, by key; and by row, the part that it is of."""

    def __init__(self) -> None:
        self._parts: dict[PartKey, HeldPart] = {}
        self._of_row: dict[tuple[str, RowId], HeldPart] = {}

    def find(self, key: PartKey) -> HeldPart | None:
        """Return a part that is held."""
        return self._parts.get(key)

    def add(self, work: WorkPart) -> HeldPart:
        """Take a lease."""
        lease = work.lease
        part = self._parts[lease.part] = HeldPart(work, lease.stop, lease.part.start)
        return part

    def drop(self, key: PartKey) -> None:
        """Forget a part whose end is known to the driver."""
        del self._parts[key]

    def begin(self, part: HeldPart, row_ids: Iterator[RowId]) -> None:
        """Take note of rows that begin."""
        for row_id in row_ids:
            part.open.add(row_id)
            self._of_row[part.work.table, row_id] = part

    def ended(self, table: str, row_id: RowId, *, is_awaited: bool = False) -> HeldPart | None:
        """Take note of a row that has ended, or that waits for a person; gives the part that has ended with it."""
        part = self._of_row.pop((table, row_id))
        part.open.discard(row_id)
        if is_awaited:
            part.awaited.append(row_id)
        return part if part.has_ended and not part.is_told else None

    def is_split(self, row: RowRef) -> bool:
        """Return whether rows with the prefix value of a row that has begun may lie in another cell."""
        return self._of_row[row.table, row.row_id].work.is_split

    def objects(self) -> set[str]:
        """Return the names of the buckets of which parts are held."""
        return {part.work.object for part in self._parts.values()}

    def beat(self) -> tuple[tuple[PartKey, int], ...]:
        """Return (part, place of the first row that has not begun) of each part."""
        # Another thread asks.
        return tuple((key, part.begun) for key, part in tuple(self._parts.items()))

    @property
    def num_left(self) -> int:
        """Return how many rows have not begun."""
        return sum(part.num_left for part in self._parts.values())
