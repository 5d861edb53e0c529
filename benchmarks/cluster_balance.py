"""The loads of cells where groups of rows are of Zipf sizes: the largest over the mean, and prefixes computed again.

The real cutter and the real lease book in virtual time: cells are equally fast and take the largest bucket that is
left. No row is stolen, so that the cuts alone are judged. Sizes are drawn with a seed, and so is the order of groups.
"""

from __future__ import annotations

import argparse
import heapq
from bisect import bisect
from collections import Counter
from itertools import accumulate
from random import Random
from typing import Any

from machine import save

from sundog.cluster.lease_events import BucketAdded, CellAsked, CellJoined, LeaseEnded, LeasePart
from sundog.cluster.leases import LeaseBook
from sundog.runtime.buckets.cutting import Border, BucketCutter, BucketSizes


def zipf_groups(exponent: float, num_groups: int, num_rows: int, seed: int) -> list[int]:
    """Return the group of each row; that of rank r is drawn with a weight of 1 / r ** exponent."""
    random = Random(seed)
    sums = list(accumulate(1 / rank**exponent for rank in range(1, num_groups + 1)))
    return [min(num_groups - 1, bisect(sums, random.random() * sums[-1])) for _ in range(num_rows)]


def group_sizes(exponent: float, num_groups: int, num_rows: int, seed: int) -> list[int]:
    """Return the number of rows of each group that has any, in the order in which the groups are read: by a hash."""
    sizes = list(Counter(zipf_groups(exponent, num_groups, num_rows, seed)).values())
    Random(seed).shuffle(sizes)
    return sizes


def bucket_sizes(cutter: BucketCutter, groups: list[int]) -> tuple[list[int], int]:
    """Return the rows of each bucket, and how often a group is cut."""
    buckets: list[int] = []
    num_cuts = 0
    for group, size in enumerate(groups):
        key = group.to_bytes(4, "big")
        for _ in range(size):
            border = cutter.border(key)
            if border is not Border.NONE:
                buckets.append(0)
            num_cuts += border is Border.SPLIT
            buckets[-1] += 1
    return buckets, num_cuts


def cell_loads(sizes: list[int], num_cells: int) -> Counter[str]:
    """Return the rows that each cell works on; a row takes a second."""
    book = LeaseBook()
    cells = [f"cell-{number}" for number in range(num_cells)]
    for cell in cells:
        book.handle(CellJoined(0.0, cell))
    for bucket, size in enumerate(sizes):
        book.handle(BucketAdded(0.0, bucket, size))
    loads: Counter[str] = Counter()
    ends: list[tuple[float, str, int, LeasePart | None]] = [(0.0, cell, 1, None) for cell in cells]
    while ends:
        now_s, cell, number, lease = heapq.heappop(ends)
        if lease is not None:
            loads[cell] += lease.stop - lease.part.start
            book.handle(LeaseEnded(now_s, cell, lease.part))
        for action in book.handle(CellAsked(now_s, cell, number)):
            if isinstance(action, LeasePart):
                seconds = action.stop - action.part.start
                heapq.heappush(ends, (now_s + seconds, cell, number + 1, action))
    assert loads.total() == sum(sizes)
    return loads


def figures(exponent: float, num_groups: int, num_rows: int, num_cells: int, seed: int = 1) -> dict[str, Any]:
    sizes = BucketSizes.for_cells(num_rows, num_cells)
    groups = group_sizes(exponent, num_groups, num_rows, seed)
    buckets, num_cuts = bucket_sizes(BucketCutter(sizes), groups)
    loads = cell_loads(buckets, num_cells)
    return {
        "zipf": exponent,
        "max_over_mean_load": round(max(loads.values()) * num_cells / num_rows, 4),
        "buckets": len(buckets),
        "hot_values": sum(size > sizes.hot_rows for size in groups),
        "copied_prefixes": num_cuts,
        "copied_prefixes_percent_of_groups": round(100 * num_cuts / num_groups, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--groups", type=int, default=20_000)
    parser.add_argument("--cells", type=int, default=32)
    parser.add_argument("--save", help="the name of a file in results, without its end")
    asked = parser.parse_args()
    arms = [figures(exponent, asked.groups, asked.rows, asked.cells) for exponent in (0.0, 0.8, 1.0, 1.2)]
    for arm in arms:
        print(arm)
    if asked.save:
        save(asked.save, {"rows": asked.rows, "groups": asked.groups, "cells": asked.cells, "arms": arms})


if __name__ == "__main__":
    main()
