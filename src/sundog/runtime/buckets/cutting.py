"""The places where rows in reading order are cut into buckets.

Owns the sizes of buckets and the rule of the cut. Pure: the same rows are cut alike on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Any

from pydantic_core import to_json

from sundog.execution.input_row import BadRow, InputRow

BUCKETS_PER_CELL = 64
UNITS_IN_A_GROUP = 16
"""A group of more than so many buckets' rows is hot. Of 64 buckets a cell that is a quarter of the cell's share."""
ROWS_WHERE_UNCOUNTED = 1_024
"""The rows of a bucket where it is not known how many rows there are."""
MAX_ROWS_OF_A_GROUP = 65_536
"""A group of more rows is hot in any case. Its prefix computed once more is nothing beside so many rows."""
MAX_BUCKET_BYTES = 64 * 2**20
"""The rows of a bucket have no more bytes, but for its last row: whoever writes a bucket has it in memory."""
DIGEST_BYTES = 16

GroupKey = bytes | None
"""A digest of a row's partition value: rows side by side with equal ones are a group. None: the row is by itself."""


class Border(Enum):
    """The kinds of border that may lie before a row."""

    #: The row lies in the bucket of the row before it.
    NONE = "none"
    #: A bucket begins with the row, and so does a group.
    GROUP = "group"
    #: A bucket begins with the row inside a hot group: this bucket and the one before it are split.
    SPLIT = "split"


@dataclass(frozen=True, slots=True)
class BucketSizes:
    """The rows of a bucket, each number 1 or more."""

    #: A bucket of so many rows ends with its group.
    target_rows: int
    #: A group of more rows is hot: it is cut where so many of its rows lie in one bucket.
    hot_rows: int

    @classmethod
    def for_cells(cls, num_rows: int | None, num_cells: int) -> BucketSizes:
        """Return the sizes for a run on `num_cells` cells, 1 or more. `num_rows`: None where it is not known."""
        num_buckets = BUCKETS_PER_CELL * num_cells
        target = ROWS_WHERE_UNCOUNTED if num_rows is None else max(1, -(-num_rows // num_buckets))
        return cls(target, max(target, min(UNITS_IN_A_GROUP * target, MAX_ROWS_OF_A_GROUP)))


class BucketCutter:
    """Takes the rows one after the other in reading order, and says which of them begin a bucket."""

    def __init__(self, sizes: BucketSizes) -> None:
        self._sizes = sizes
        self._key: GroupKey = None
        #: These count what lies in the bucket: rows, their bytes, and the rows of its last group.
        self._num_rows = 0
        self._num_bytes = 0
        self._num_of_group = 0
        #: The bucket began inside the group.
        self._is_rest = False

    def border(self, key: GroupKey, num_bytes: int = 0) -> Border:
        """Return which border lies before the next row, which has `num_bytes`; GROUP before the first row."""
        border = self._before(key)
        if border is not Border.NONE:
            self._num_rows = self._num_bytes = self._num_of_group = 0
            self._is_rest = border is Border.SPLIT
        elif not self._continues(key):
            self._num_of_group = 0
        self._key = key
        self._num_rows += 1
        self._num_bytes += num_bytes
        self._num_of_group += 1
        return border

    def _before(self, key: GroupKey) -> Border:
        if not self._num_rows:
            return Border.GROUP
        is_full = self._num_bytes >= MAX_BUCKET_BYTES
        if self._continues(key):
            return Border.SPLIT if is_full or self._num_of_group >= self._sizes.hot_rows else Border.NONE
        # What is left of a hot group lies alone: the groups after it are whole, and their bucket is not split.
        is_full = is_full or self._is_rest or self._num_rows >= self._sizes.target_rows
        return Border.GROUP if is_full else Border.NONE

    def _continues(self, key: GroupKey) -> bool:
        return key is not None and key == self._key


class GroupKeys:
    """The keys of a table's rows, which come in reading order. A bad row is of the group of the row before it, since no
    call is made for it."""

    def __init__(self, order: Sequence[Sequence[str]]) -> None:
        """`order`: the values by which the rows are read (`reading_order_of`); the first is the partition value."""
        self._path = tuple(order[0][1:]) if order else None
        self._key: GroupKey = None

    def key(self, row: InputRow | BadRow) -> GroupKey:
        """Return the key of the next row; None where the rows are read as they come."""
        if self._path is not None and not (isinstance(row, BadRow) and self._key is not None):
            value = _value_at(row.known if isinstance(row, BadRow) else row, self._path)
            self._key = blake2b(to_json(value), digest_size=DIGEST_BYTES).digest()
        return self._key


def _value_at(row: Any, path: Sequence[str]) -> Any:
    """Return what stands at `path` in a row, None where nothing does."""
    found = row
    for name in path:
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found
