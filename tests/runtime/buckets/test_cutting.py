"""Where rows in reading order are cut into buckets, and the loads of cells under it."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import pytest
from cluster_balance import bucket_sizes, cell_loads, figures
from hypothesis import given
from hypothesis import strategies as st

from sundog.execution.input_row import BadRow
from sundog.runtime.buckets.cutting import MAX_BUCKET_BYTES, Border, BucketCutter, BucketSizes, GroupKey, GroupKeys

SIZES = st.builds(
    lambda target, more: BucketSizes(target, target + more), st.integers(1, 9), st.integers(0, 30)
)  # fmt: skip
GROUPS = st.lists(st.integers(1, 60), min_size=1, max_size=30)


def borders(sizes: BucketSizes, keys: list[GroupKey]) -> list[Border]:
    cutter = BucketCutter(sizes)
    return [cutter.border(key) for key in keys]


def keys_of(groups: list[int]) -> list[GroupKey]:
    return [bytes([number]) for number, size in enumerate(groups) for _ in range(size)]


@given(SIZES, GROUPS)
def test_groups_are_cut_only_where_they_are_hot(sizes: BucketSizes, groups: list[int]) -> None:
    keys = keys_of(groups)
    found = list(zip(keys, borders(sizes, keys), strict=True))
    for key, rows in groupby(found, key=lambda one: one[0]):
        inside = [border for _, border in rows][1:]
        assert Border.GROUP not in inside, key
        assert inside.count(Border.SPLIT) == (len(inside)) // sizes.hot_rows


@given(SIZES, GROUPS)
def test_buckets_have_about_as_many_rows_as_they_should(sizes: BucketSizes, groups: list[int]) -> None:
    """A bucket ends with the group in which it is full, and what is left of a hot group is alone."""
    buckets: list[list[GroupKey]] = []
    kinds: list[Border] = []
    keys = keys_of(groups)
    for key, border in zip(keys, borders(sizes, keys), strict=True):
        if border is not Border.NONE:
            buckets.append([])
            kinds.append(border)
        buckets[-1].append(key)
    assert kinds[0] is Border.GROUP
    for place, (bucket, kind) in enumerate(zip(buckets, kinds, strict=True)):
        assert len(bucket) < sizes.target_rows + sizes.hot_rows
        if kind is Border.SPLIT:
            assert len(set(bucket)) == 1
            assert bucket[0] == buckets[place - 1][-1]
        elif place + 1 < len(buckets):
            assert len(bucket) >= sizes.target_rows


def test_rows_without_a_value_are_cut_anywhere() -> None:
    found = borders(BucketSizes(2, 4), [None] * 5)
    assert found == [Border.GROUP, Border.NONE, Border.GROUP, Border.NONE, Border.GROUP]


def test_a_bucket_of_long_rows_ends_early() -> None:
    cutter = BucketCutter(BucketSizes(1_000, 1_000))
    half = MAX_BUCKET_BYTES // 2
    assert [cutter.border(key, half) for key in (b"a", b"a", b"a", b"b", b"b", b"c")] == [
        Border.GROUP,
        Border.NONE,
        Border.SPLIT,
        Border.GROUP,
        Border.NONE,
        Border.GROUP,
    ]


@pytest.mark.parametrize(
    ("num_rows", "num_cells", "sizes"),
    [
        pytest.param(1_000_000, 32, BucketSizes(489, 7_824), id="a quarter of the share of a cell is hot"),
        pytest.param(None, 32, BucketSizes(1_024, 16_384), id="rows that nobody has counted"),
        pytest.param(10, 32, BucketSizes(1, 16), id="fewer rows than buckets"),
        pytest.param(0, 1, BucketSizes(1, 16), id="no rows"),
        pytest.param(100_000_000, 40, BucketSizes(39_063, 65_536), id="a bucket has to fit into memory"),
        pytest.param(100_000_000, 1, BucketSizes(1_562_500, 1_562_500), id="never below a bucket's own size"),
    ],
)
def test_the_sizes_of_buckets(num_rows: int | None, num_cells: int, sizes: BucketSizes) -> None:
    assert BucketSizes.for_cells(num_rows, num_cells) == sizes


def test_keys_are_equal_where_values_are() -> None:
    keys = GroupKeys([("row", "product", "name"), ("row", "other")])
    rows: list[Any] = [
        {"product": {"name": "a"}, "other": 1},
        {"product": {"name": "a"}, "other": 2},
        {"product": {"name": "b"}, "other": 2},
        {"product": {"name": None}},
        {"product": None},
        {"product": "text"},
    ]
    a, same, b, *empty = (keys.key(row) for row in rows)
    assert a == same
    assert b not in (a, None)
    assert len({*empty}) == 1
    assert {a, b, None}.isdisjoint(empty)


def test_a_bad_row_does_not_end_a_group() -> None:
    keys = GroupKeys([("row", "product")])
    first = keys.key(BadRow("no", {"product": "a"}))
    assert first == keys.key({"product": "a"}) == keys.key(BadRow("no")) == keys.key({"product": "a"})


def test_rows_that_are_read_as_they_come_have_no_key() -> None:
    keys = GroupKeys(())
    assert [keys.key({"product": "a"}), keys.key(BadRow("no"))] == [None, None]


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.2])
def test_loads_are_even_whatever_the_skew(exponent: float) -> None:
    """benchmarks/cluster_balance.py says the same of ten times as many rows."""
    found = figures(exponent, num_groups=20_000, num_rows=100_000, num_cells=32)
    assert found["max_over_mean_load"] <= 1.05
    assert found["copied_prefixes_percent_of_groups"] <= 0.5


def test_without_the_cuts_a_hot_value_is_seen_in_the_loads() -> None:
    """This is the measure's own test: one value of half the rows is one cell's work."""
    groups = [5_000, *[10] * 500]
    sizes, num_cuts = bucket_sizes(BucketCutter(BucketSizes(40, 10_000)), groups)
    assert num_cuts == 0
    assert max(cell_loads(sizes, 4).values()) >= 5_000
