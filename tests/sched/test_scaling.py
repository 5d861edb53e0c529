"""The number of replicas, as tables."""

from __future__ import annotations

import pytest

from sundog.sched.fleets import FleetView
from sundog.sched.policies.scaling import by_queue, by_remaining_work, settled


def fleet(**changes: float | None) -> FleetView:
    known: dict[str, object] = {"time_s": 0.0, "num_replicas": 2, "max_replicas": 8, "num_calls": 0}
    return FleetView(**(known | {"num_target_calls": 4} | changes))  # type: ignore[arg-type]  # a table's columns


@pytest.mark.parametrize(("num_calls", "expected"), [(0, 0), (1, 1), (4, 1), (5, 2), (400, 100)])
def test_the_queue_wants_its_target_at_each(num_calls: int, expected: int) -> None:
    assert by_queue(fleet(num_calls=num_calls)) == expected


@pytest.mark.parametrize(
    ("remaining_s", "time_s", "start_s", "expected"),
    [
        (None, 0.0, 0.0, 2),  # nothing is measured
        (1000.0, 0.0, 0.0, 2),  # 1,100 s of work in 1,000 s
        (500.0, 0.0, 0.0, 1),
        (0.0, 0.0, 0.0, 0),
        (2000.0, 0.0, 0.0, 3),  # 2,200 s of work
        (2000.0, 0.0, 800.0, 3),  # 200 s are left to a third one
        (2000.0, 0.0, 900.0, 4),  # 100 s are left to each further one
        (2000.0, 0.0, 1000.0, 8),  # none would come in time
        (2000.0, 1000.0, 0.0, 8),  # it is late
        (0.0, 1000.0, 0.0, 2),
    ],
)
def test_the_remaining_work_is_done_in_time(
    remaining_s: float | None, time_s: float, start_s: float, expected: int
) -> None:
    found = by_remaining_work(fleet(remaining_s=remaining_s, time_s=time_s, start_s=start_s, finish_s=1000.0))
    assert found == expected


@pytest.mark.parametrize(
    ("wish", "recent", "num_replicas", "expected"),
    [
        (5, [5], 2, 5),
        (99, [99], 2, 8),
        (0, [0], 1, 1),
        (1, [1], 6, 1),  # nothing else was wished for lately
        (1, [4, 1], 6, 4),
        (1, [7, 1], 6, 6),  # it was never that many, so none is added
        (5, [7, 5], 2, 5),
    ],
)
def test_more_come_at_once_and_fewer_when_all_wishes_agree(
    wish: int, recent: list[int], num_replicas: int, expected: int
) -> None:
    assert settled(wish, recent, num_replicas, least=1, most=8) == expected
