from __future__ import annotations

import pytest

from sundog.engines.modelled.replica import StepSeconds
from sundog.errors import ConfigError
from sundog.sim.failures import ReplicaFailure, check_apart, read_failure
from sundog.sim.simulate import simulate_load
from sundog.sim.workload import EngineFleet, ModelledEngine, SimulatedCall, SimulatedRow, StepTraits, Workload

POOL = "engine:e"


def workload(num_replicas: int, num_rows: int = 8, max_attempts: int = 3) -> Workload:
    """Rows of one call of 10 s each, one at a time on each replica."""
    row = SimulatedRow((SimulatedCall("ask", POOL, call_s=10.0),))
    fleet = EngineFleet(ModelledEngine(max_concurrency=1), num_replicas)
    steps = {"ask": StepTraits(max_attempts=max_attempts)}
    return Workload(lambda: iter([row] * num_rows), num_rows, 100, {POOL: fleet}, steps=steps)


def test_a_lost_replica_leaves_its_work_to_the_others() -> None:
    assert simulate_load(workload(2), "fcfs").makespan_s == 40.0
    lost = simulate_load(workload(2), "fcfs", [ReplicaFailure(POOL, 1, 15.0)])
    assert lost.makespan_s == pytest.approx(70.0), "one call of eight had ended there"
    assert lost.num_failed_rows == 0
    assert lost.course.looks[-1][POOL].num_replicas == 1


def test_what_runs_in_steps_on_a_lost_replica_runs_again() -> None:
    row = SimulatedRow((SimulatedCall("ask", POOL, (), None, 0, 30, 10),))
    fleet = EngineFleet(ModelledEngine(1, StepSeconds(1.0, 0.0, 0.0, 0.0, 0.0)), 2)
    both = Workload(lambda: iter([row] * 8), 8, 8, {POOL: fleet}, steps={"ask": StepTraits(max_attempts=3)})
    lost = simulate_load(both, "fcfs", [ReplicaFailure(POOL, 1, 15.0)])
    assert (lost.num_failed_rows, lost.num_executed) == (0, 8)
    assert lost.makespan_s == pytest.approx(70.0), "one call of eight had ended there"


def test_a_replica_that_is_lost_as_a_call_begins_there_loses_no_row() -> None:
    """At 10 s two calls end, two more are told to begin, and one of their replicas is lost."""
    found = simulate_load(workload(2), "fcfs", [ReplicaFailure(POOL, 1, 10.0)])
    assert found.num_failed_rows == 0
    assert found.makespan_s == pytest.approx(70.0)


def test_a_replica_that_comes_back_takes_its_part() -> None:
    back = simulate_load(workload(2), "fcfs", [ReplicaFailure(POOL, 1, 15.0, down_s=5.0)])
    assert back.makespan_s == pytest.approx(50.0)
    assert back.num_failed_rows == 0


def test_without_its_last_replica_a_pool_fails_its_rows() -> None:
    lost = simulate_load(workload(1, num_rows=3), "fcfs", [ReplicaFailure(POOL, 0, 15.0)])
    assert (lost.num_executed, lost.num_failed_rows) == (1, 2)


def test_what_was_written_is_read() -> None:
    fleets, pools = workload(2).engines, {"e": POOL}
    assert read_failure("e#1@120s", fleets, pools) == ReplicaFailure(POOL, 1, 120.0)
    assert read_failure("e#0@1.5s+60s", fleets, pools) == ReplicaFailure(POOL, 0, 1.5, 60.0)


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ("e1@5s", "not of the form", "as in --fail local#1@120s"),
        ("f#1@5s", "no engine 'f'", None),
        ("e#0@1.2.3s", "not of the form", "as in --fail local#1@120s"),
        ("unused#0@5s", "no step uses the engine 'unused'", "used are: e"),
        ("e#2@5s", "no replica 2", "it has 2 at the begin, counted from 0; --replicas e=N simulates more"),
    ],
)
def test_what_is_not_there_cannot_fail(text: str, what: str, hint: str | None) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        read_failure(text, workload(2).engines, {"e": POOL, "unused": "engine:unused"})
    if hint is not None:
        assert caught.value.hint == hint


@pytest.mark.parametrize("down_s", [None, 10.0])
def test_what_is_away_cannot_be_lost(down_s: float | None) -> None:
    again = ReplicaFailure(POOL, 1, 9.0)
    with pytest.raises(ConfigError, match="is lost at 9 s, and it is away since 5 s"):
        check_apart([again, ReplicaFailure(POOL, 1, 5.0, down_s)])
    check_apart([again, ReplicaFailure(POOL, 0, 5.0), ReplicaFailure(POOL, 1, 5.0, 4.0)])


def test_a_branch_that_fails_stops_no_call_that_others_share() -> None:
    """Both rows share a call of 20 s; the first one's other branch has lost its only replica meanwhile."""
    shared = SimulatedCall("tool", "tool", (), "same", call_s=20.0)
    first = SimulatedRow((SimulatedCall("ask", POOL, call_s=10.0), shared))
    second = SimulatedRow((shared,))
    fleets = {POOL: EngineFleet(ModelledEngine(max_concurrency=1), 1)}
    both = Workload(lambda: iter([first, second]), 2, 2, fleets, {"tool": 4})
    found = simulate_load(both, "fcfs", [ReplicaFailure(POOL, 0, 5.0)])
    assert (found.num_failed_rows, found.num_executed, found.makespan_s) == (1, 1, 20.0)


def test_preemptions_of_replicas_that_stay_are_counted() -> None:
    row = SimulatedRow((SimulatedCall("ask", POOL, (), None, 0, 30, 40),))
    engine = ModelledEngine(8, StepSeconds(0.1, 0.0, 0.0, 0.0, 0.0), max_kv_tokens=96, max_tokens_in_flight=10_000)
    tight = Workload(lambda: iter([row] * 3), 3, 3, {POOL: EngineFleet(engine, 1)})
    result = simulate_load(tight, "fcfs").pools[POOL]
    assert result.num_preemptions > 0
    assert (result.counts.num_calls, result.counts.num_output_tokens) == (3, 120)


def test_what_a_lost_replica_computed_is_computed_elsewhere() -> None:
    """Its steps are modelled, token by token; what ran there is tried again."""
    row = SimulatedRow((SimulatedCall("ask", POOL, (), None, 0, 30, 40),))
    fleet = EngineFleet(ModelledEngine(8, StepSeconds(0.1, 0.0, 0.0, 0.0, 0.0)), 2)
    steps = {"ask": StepTraits(max_attempts=3)}
    both = Workload(lambda: iter([row] * 4), 4, 4, {POOL: fleet}, steps=steps)
    lost = simulate_load(both, "fcfs", [ReplicaFailure(POOL, 1, 2.0)])
    assert (lost.num_failed_rows, lost.num_executed) == (0, 4)
    assert lost.makespan_s > 2.0 + 4.0
