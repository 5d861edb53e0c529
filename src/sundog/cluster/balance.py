"""The partition of rows into buckets: rows of one prefix value lie in one bucket, but for values of very many rows.

Pure functions over values, counts and row numbers; the same on every machine and in every process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

BUCKETS_PER_CELL = 64
HOT_SHARE = 0.25
"""A value with more than this share of a cell's rows is hot: its rows are spread, and its prefix is computed again."""


@dataclass(frozen=True, slots=True)
class BucketPlan:
    """The map from a row to its bucket. It is fixed for the life of a run, while cells come and go."""

    num_buckets: int
    #: By hot value, the number of buckets over which its rows are spread, 2 or more.
    spread: Mapping[str, int]

    def bucket_of(self, value: str, row: int) -> int:
        """Return the bucket, in [0, num_buckets), of the row with this prefix value and number in the input, from 0."""
        # Buckets in a row, from a hashed one: no two shares of a value lie in one bucket.
        place = _hash(row.to_bytes(8, "big")) % self.spread[value] if value in self.spread else 0
        return (_hash(value.encode()) + place) % self.num_buckets

    @property
    def num_copied_prefixes(self) -> int:
        """The prefixes that are computed again, one for each further bucket of a hot value."""
        return sum(num_spread - 1 for num_spread in self.spread.values())


def bucket_plan(num_rows_of: Mapping[str, int], num_cells: int) -> BucketPlan:
    """Return the partition for `num_cells` cells, 1 or more, of rows counted by prefix value."""
    assert num_cells >= 1, "a run has a cell"
    num_buckets = BUCKETS_PER_CELL * num_cells
    most = max(1.0, HOT_SHARE * sum(num_rows_of.values()) / num_cells)
    spread = {value: min(num_buckets, -int(-rows // most)) for value, rows in num_rows_of.items() if rows > most}
    return BucketPlan(num_buckets, spread if num_cells > 1 else {})


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")
