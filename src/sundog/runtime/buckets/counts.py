"""The buckets that groups of rows will make, by the sizes of the groups alone.

Follows the rule of `cutting` without a row. What rows take in bytes is left out: buckets of long rows end sooner.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sundog.runtime.buckets.cutting import BucketSizes


def bucket_counts(sizes: BucketSizes, groups: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield, for each group of so many rows (1 or more) in reading order, how many buckets begin in it, and in how many
    its rows lie.

    >>> list(bucket_counts(BucketSizes(target_rows=2, hot_rows=4), [1, 1, 9, 1]))
    [(1, 1), (0, 1), (3, 3), (1, 1)]
    """
    num_rows = 0
    is_rest = False
    for size in groups:
        is_begun = not num_rows or is_rest or num_rows >= sizes.target_rows
        if is_begun:
            num_rows, is_rest = 0, False
        num_splits = (size - 1) // sizes.hot_rows
        if num_splits:
            num_rows, is_rest = size - num_splits * sizes.hot_rows, True
        else:
            num_rows += size
        yield is_begun + num_splits, 1 + num_splits
