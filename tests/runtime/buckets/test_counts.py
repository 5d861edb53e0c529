"""The buckets that are told before a run are those that the cutter makes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sundog.runtime.buckets.counts import bucket_counts
from sundog.runtime.buckets.cutting import Border, BucketCutter, BucketSizes

sizes = st.builds(lambda target, more: BucketSizes(target, target + more), st.integers(1, 5), st.integers(0, 5))


@given(sizes=sizes, groups=st.lists(st.integers(1, 30), max_size=12))
def test_groups_make_the_buckets_of_the_cutter(sizes: BucketSizes, groups: list[int]) -> None:
    cutter = BucketCutter(sizes)
    made = []
    for number, size in enumerate(groups):
        borders = [cutter.border(bytes([number])) for _ in range(size)]
        begun = [border for border in borders if border is not Border.NONE]
        made.append((len(begun), 1 + begun.count(Border.SPLIT)))
    assert list(bucket_counts(sizes, groups)) == made
