"""Pools whose replicas come and go: small cases worked out by hand, and what holds for all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sundog.sched.facts import CallFacts
from sundog.sched.fleets import Scale
from sundog.sched.policies.scaling import by_queue, by_remaining_work
from sundog.sim.failures import ReplicaFailure
from sundog.sim.simulate import Simulated, simulate_load
from sundog.sim.workload import (
    Autoscaling,
    EngineFleet,
    ModelledEngine,
    SimulatedCall,
    SimulatedRow,
    StepTraits,
    Workload,
)

POOL = "engine:e"
QUEUE = Autoscaling(by_queue, 1, 4, start_s=5.0, num_target_calls=1, steady_s=30.0)
FINISH = Autoscaling(
    by_remaining_work, 1, 4, start_s=5.0, num_target_calls=1, steady_s=30.0, finish_s=100.0, num_calls={"ask": 24}
)


def workload(fleet: EngineFleet, num_rows: int = 24, call_s: float = 10.0) -> Workload:
    """Rows of one call each, that runs alone on its replica."""
    row = SimulatedRow((SimulatedCall("ask", POOL, call_s=call_s),))
    steps = {"ask": StepTraits(CallFacts("flow", "ask"), max_attempts=3)}
    return Workload(lambda: iter([row] * num_rows), num_rows, 100, {POOL: fleet}, steps=steps)


def run(rule: Autoscaling, num_rows: int = 24, failures: list[ReplicaFailure] | None = None) -> Simulated:
    fleet = EngineFleet(ModelledEngine(1), rule.min_replicas, autoscaling=rule)
    return simulate_load(workload(fleet, num_rows), "fcfs", failures or [])


def test_the_queue_brings_all_that_may_be() -> None:
    """At 15 s 23 calls are left, and three replicas more are ordered, which are there at 20 s: from then on four end
    four calls every 10 s, of the 22 that are left."""
    found = run(QUEUE)
    assert found.makespan_s == pytest.approx(20.0 + 60.0)
    pool = found.pools[POOL]
    assert pool.num_replicas == 1
    assert pool.counts.num_calls == 24
    assert pool.replica_s == pytest.approx(80.0 + 3 * 65.0), "a replica that starts is paid for"


def test_as_many_come_as_the_remaining_work_needs() -> None:
    """At 15 s one call of 10 s has ended: 23 are left, 253 s of work with what is kept back, of which the one that is
    there does 85 s; the others have 80 s each from 20 s on."""
    found = run(FINISH)
    assert max(look[POOL].num_replicas for look in found.course.looks) == 4
    assert found.makespan_s <= 100.0
    assert run(replace(FINISH, finish_s=10_000.0)).makespan_s == pytest.approx(240.0), (
        "one is enough, so there is no other"
    )


def test_replicas_go_when_they_are_no_longer_wished_for() -> None:
    """A call of 200 s stays when the others have ended."""
    long = SimulatedRow((SimulatedCall("ask", POOL, call_s=200.0),))
    short = SimulatedRow((SimulatedCall("ask", POOL, call_s=10.0),))
    fleet = EngineFleet(ModelledEngine(1), 1, autoscaling=QUEUE)
    rows = [long] + [short] * 6
    found = simulate_load(Workload(lambda: iter(rows), 7, 100, {POOL: fleet}), "fcfs")
    assert found.makespan_s == 200.0
    assert found.course.looks[-1][POOL].num_replicas == 1
    # Six short calls end at 40 s by three replicas; after 45 s one call is left, and at 75 s 30 s have passed since
    # more were wished for.
    assert found.pools[POOL].replica_s == pytest.approx(200.0 + 3 * (75.0 - 15.0), abs=15.0 * 3)
    assert found.pools[POOL].replica_s < 200.0 + 3 * (200.0 - 15.0)


def test_one_that_is_lost_is_replaced() -> None:
    lost = run(QUEUE, failures=[ReplicaFailure(POOL, 0, 25.0)])
    assert (lost.num_failed_rows, lost.pools[POOL].counts.num_calls) == (0, 24)
    assert max(look[POOL].num_replicas for look in lost.course.looks) == 4
    assert lost.course.looks[-1][POOL].num_replicas == 4
    alone = run(replace(QUEUE, max_replicas=1), num_rows=3, failures=[ReplicaFailure(POOL, 0, 12.0)])
    assert alone.num_failed_rows == 0
    assert alone.makespan_s == pytest.approx(15.0 + 5.0 + 20.0), "the next question orders another one"


@settings(max_examples=40, deadline=None)
@given(
    scale=st.sampled_from([by_queue, by_remaining_work]),
    num_rows=st.integers(1, 60),
    least=st.integers(1, 3),
    more=st.integers(0, 4),
    start_s=st.sampled_from([0.0, 5.0, 40.0]),
    steady_s=st.sampled_from([0.0, 30.0]),
    finish_s=st.floats(1.0, 500.0),
)
def test_it_never_beats_the_whole_fleet_nor_leaves_its_bounds(
    scale: Scale, num_rows: int, least: int, more: int, start_s: float, steady_s: float, finish_s: float
) -> None:
    rule = Autoscaling(scale, least, least + more, start_s, 2, steady_s, finish_s, {"ask": num_rows})
    found = run(rule, num_rows)
    whole, smallest = (
        simulate_load(workload(EngineFleet(ModelledEngine(1), number), num_rows), "fcfs")
        for number in (least + more, least)
    )
    assert whole.makespan_s - 1e-6 <= found.makespan_s <= smallest.makespan_s + 1e-6
    assert found.pools[POOL].counts.num_calls == num_rows
    numbers = [look[POOL].num_replicas for look in found.course.looks]
    assert least <= min(numbers)
    assert found.pools[POOL].replica_s >= least * found.makespan_s - 1e-6
