"""The meter: seconds of one replica for a whole batch, from what has run so far."""

from __future__ import annotations

import pytest

from sundog.host.meter import MIN_CALLS, Meter


def metered(num_calls: int, *, at_once: int, call_s: float = 1.0) -> tuple[Meter, float]:
    """`at_once` calls of a step side by side on one replica, until `num_calls` have run; and the time then."""
    meter, time_s = Meter(), 0.0
    for _ in range(num_calls // at_once):
        for _ in range(at_once):
            meter.begin("p", "p/0", time_s)
        time_s += call_s
        for _ in range(at_once):
            meter.end("p", "p/0", "step", time_s - call_s, time_s)
        time_s += 5.0  # idle
    return meter, time_s


def test_calls_side_by_side_share_the_replica() -> None:
    """40 calls of 1 s, four at once, were a quarter of the rows: 40 s of the replica in all."""
    meter, time_s = metered(40, at_once=4)
    assert meter.batch_seconds({"step": 0.75}, time_s) == {"step": pytest.approx(40.0)}


def test_two_replicas_are_counted_each_for_itself() -> None:
    meter = Meter()
    for replica_id in ("p/0", "p/1"):
        for index in range(MIN_CALLS):
            meter.begin("p", replica_id, float(index))
            meter.end("p", replica_id, "step", float(index), index + 1.0)
    assert meter.batch_seconds({"step": 0.0}, 99.0) == {"step": pytest.approx(2.0 * MIN_CALLS)}


def test_little_is_no_measurement() -> None:
    meter, time_s = metered(MIN_CALLS - 1, at_once=1)
    assert meter.batch_seconds({"step": 0.0}, time_s) == {}
    meter, time_s = metered(40, at_once=4)
    assert meter.batch_seconds({"step": 0.96}, time_s) == {}
