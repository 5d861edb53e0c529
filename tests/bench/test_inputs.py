"""The rows of a case: as many distinct ones as is stated, and the same ones everywhere."""

from __future__ import annotations

import pytest
from halo.flows.parameters import read
from halo.inputs import REPETITIONS, make_rows, parameters
from halo.workloads.catalog import WORKLOADS


def num_distinct(rows: list[dict[str, object]]) -> int:
    return len({tuple(value for key, value in row.items() if key != "id") for row in rows})


@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_share_of_repetition_is_the_one_stated(workload: str) -> None:
    assert num_distinct(make_rows(workload, 40, "none", 1)) == 40
    assert num_distinct(make_rows(workload, 40, "halo", 1)) == 10
    assert 2 < num_distinct(make_rows(workload, 40, "zipf", 1)) < 40


def test_an_earlier_graph_has_the_rows_of_the_published_one() -> None:
    assert make_rows("early_w2", 20, "halo", 1) == make_rows("w2", 20, "halo", 1)


@pytest.mark.parametrize("repetition", REPETITIONS)
def test_equal_seeds_give_equal_rows(repetition: str) -> None:
    assert repetition in REPETITIONS
    one, two, other = (make_rows("w5", 20, repetition, seed) for seed in (1, 1, 2))
    assert one == two != other
    assert [row["id"] for row in one] == list(range(20))


def test_zipf_repeats_some_rows_far_more_than_others() -> None:
    rows = make_rows("w5", 200, "zipf", 1)
    counts = sorted(sum(row["request"] == one for row in rows) for one in {row["request"] for row in rows})
    assert counts[-1] > 20 > counts[len(counts) // 2]


def test_there_are_enough_parameters_for_the_largest_cases() -> None:
    assert min(len(parameters(workload)) for workload in WORKLOADS) >= 2_000
    with pytest.raises(ValueError, match="w1 has"):
        make_rows("w1", 100_000, "none", 1)


def test_the_rule_reads_a_request() -> None:
    request = make_rows("w5", 1, "none", 3)[0]["request"]
    found = read(request)
    assert {"region", "segment", "since", "until", "size"} == set(found)
    assert str(found["region"]) in request
    assert int(str(found["until"])[:4]) == int(str(found["since"])[:4]) + 1
    with pytest.raises(ValueError, match="this is no request"):
        read("Report on nothing")
