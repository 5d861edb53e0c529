"""The partition of rows into buckets, and the loads of cells under it."""

from __future__ import annotations

from collections import Counter

import pytest
from cluster_balance import bucket_sizes, cell_loads, figures
from hypothesis import given
from hypothesis import strategies as st

from sundog.cluster.balance import bucket_plan

COUNTS = st.dictionaries(st.text(max_size=5), st.integers(1, 500), min_size=1, max_size=30)


@given(COUNTS, st.integers(1, 9))
def test_rows_of_a_value_lie_in_one_bucket_unless_it_is_hot(counts: dict[str, int], num_cells: int) -> None:
    plan = bucket_plan(counts, num_cells)
    most = sum(counts.values()) / num_cells / 4
    for value, num_rows in counts.items():
        buckets = {plan.bucket_of(value, row) for row in range(num_rows)}
        assert all(0 <= bucket < 64 * num_cells for bucket in buckets)
        assert len(buckets) <= plan.spread.get(value, 1)
        if num_rows <= most:
            assert value not in plan.spread


def test_a_hot_value_is_spread_in_even_shares() -> None:
    plan = bucket_plan({"hot": 8_000, **{f"value {number}": 10 for number in range(800)}}, num_cells=4)
    assert plan.num_buckets == 256
    assert plan.spread == {"hot": 8}
    assert plan.num_copied_prefixes == 7
    shares = Counter(plan.bucket_of("hot", row) for row in range(8_000))
    assert len(shares) == 8
    assert max(shares.values()) <= 1.15 * 1_000


def test_the_partition_is_the_same_everywhere() -> None:
    """A run that goes on elsewhere finds each row in its bucket: these numbers may never change."""
    plan = bucket_plan({"manual": 1, "other": 1, "hot": 100}, num_cells=2)
    assert [plan.bucket_of(value, 7) for value in ("manual", "other", "hot", "")] == PLACES


PLACES = [38, 47, 109, 52]


def test_one_cell_spreads_nothing() -> None:
    assert bucket_plan({"hot": 1_000}, num_cells=1).spread == {}


@pytest.mark.parametrize("exponent", [0.0, 1.0, 1.2])
def test_loads_are_even_whatever_the_skew(exponent: float) -> None:
    """benchmarks/cluster_balance.py says the same of ten times as many rows."""
    found = figures(exponent, num_groups=20_000, num_rows=100_000, num_cells=32)
    assert found["max_over_mean_load"] <= 1.05
    assert found["copied_prefixes_percent_of_groups"] <= 0.5


def test_without_the_spread_a_hot_value_is_seen_in_the_loads() -> None:
    """This is the measure's own test: one value of half the rows is one cell's work."""
    counts = {"hot": 5_000, **{f"value {number}": 10 for number in range(500)}}
    plan = bucket_plan(dict.fromkeys(counts, 1), num_cells=4)
    values = [value for value, num_rows in counts.items() for _ in range(num_rows)]
    assert max(cell_loads(bucket_sizes(plan, values), 4).values()) >= 5_000
