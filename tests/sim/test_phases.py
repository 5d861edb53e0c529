"""Prefill and decode on separate replicas: small cases worked out by hand, and what holds for all."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sundog.engines.modelled.replica import StepSeconds
from sundog.sched.fleets import Flip, FlipRole
from sundog.sched.policies.role_flip import by_load
from sundog.sim.failures import ReplicaFailure
from sundog.sim.simulate import Simulated, simulate_load
from sundog.sim.workload import (
    EngineFleet,
    ModelledEngine,
    PhaseSplit,
    SimulatedCall,
    SimulatedRow,
    StepTraits,
    Workload,
    decode_pool,
)

POOL = "engine:e"
DECODE = decode_pool(POOL)
STEPS = StepSeconds(0.1, 0.01, 0.0, 0.0, 0.0)
"""A step takes 0.1 s, and 0.01 s more for each token of a prompt."""
MOVED_IN_200_MS = 100.0
"""Bytes a second: so long does the KV cache of ten tokens of 2 bytes take."""


def ask(num_prompt_tokens: int = 10, num_output_tokens: int = 5) -> SimulatedRow:
    return SimulatedRow((SimulatedCall("ask", POOL, (), None, 0, num_prompt_tokens, num_output_tokens),))


def run(
    rows: list[SimulatedRow],
    bandwidth: float | None = inf,
    failures: list[ReplicaFailure] | None = None,
    *,
    num_replicas: tuple[int, int] = (1, 1),
    max_concurrency: int = 8,
    window: int = 100,
    flip: FlipRole | None = None,
) -> Simulated:
    """Run rows with the phases apart, or together where there is no bandwidth."""
    engine = ModelledEngine(max_concurrency, STEPS, block_tokens=4, max_kv_tokens=4096)
    split = None if bandwidth is None else PhaseSplit(DECODE, bandwidth, 2.0, flip)
    fleets = {POOL: EngineFleet(engine, num_replicas[0], split=split)}
    if split is not None:
        fleets[DECODE] = EngineFleet(engine, num_replicas[1])
    steps = {"ask": StepTraits(max_attempts=3)}
    return simulate_load(Workload(lambda: iter(rows), len(rows), window, fleets, steps=steps), "fcfs", failures or [])


def test_one_call_takes_as_long_apart_as_together() -> None:
    together, apart = run([ask()], None), run([ask()])
    assert together.makespan_s == pytest.approx(0.2 + 4 * 0.1)
    assert apart.makespan_s == pytest.approx(together.makespan_s)
    assert [apart.pools[pool].busy_s for pool in (POOL, DECODE)] == [pytest.approx(0.2), pytest.approx(0.4)]
    assert apart.latencies.pools[POOL].first_token_s.quantile(0.5) == pytest.approx(0.2, rel=0.03)
    assert run([ask(num_output_tokens=1)]).pools[DECODE].counts.num_calls == 0, "nothing is left to decode"


def test_blocks_move_one_request_after_another() -> None:
    """Both prompts end at 0.3 s; their blocks are there at 0.5 s and 0.7 s, and four steps follow."""
    assert run([ask()], MOVED_IN_200_MS).makespan_s == pytest.approx(0.2 + 0.2 + 0.4)
    assert run([ask(), ask()], MOVED_IN_200_MS).makespan_s == pytest.approx(0.3 + 0.2 + 0.2 + 0.4)
    two = run([ask(), ask()], MOVED_IN_200_MS, num_replicas=(2, 2))
    assert two.makespan_s == pytest.approx(0.2 + 0.2 + 0.4), "each pair of replicas has its links"


def test_a_prompt_keeps_its_place_until_a_decode_replica_takes_it() -> None:
    """One request at a time everywhere: the second prompt is computed at 0.2 s, when the first one's blocks are gone,
    and waits with them for 0.2 s; so the third begins at 0.6 s."""
    found = run([ask(), ask(), ask()], max_concurrency=1)
    assert found.makespan_s == pytest.approx(0.2 + 3 * 0.4)
    assert found.pools[POOL].busy_s == pytest.approx(0.6)


def test_what_a_lost_decode_replica_had_is_computed_again() -> None:
    """It is lost at 0.3 s; the other one computes the prompt and all five tokens anew, after the wait for a retry."""
    rows = [ask()]
    lost = run(rows, failures=[ReplicaFailure(DECODE, 0, 0.3)], num_replicas=(1, 2))
    assert lost.num_failed_rows == 0
    assert lost.pools[DECODE].counts.num_prompt_tokens == 10
    assert lost.makespan_s > 0.3 + 0.6


def test_what_a_lost_prefill_replica_had_is_computed_again() -> None:
    """It is lost at 0.3 s while its blocks move."""
    lost = run([ask()], MOVED_IN_200_MS, [ReplicaFailure(POOL, 0, 0.3)], num_replicas=(2, 1))
    assert (lost.num_failed_rows, lost.num_executed) == (0, 1)
    assert lost.pools[DECODE].counts.num_output_tokens == 4
    assert lost.makespan_s > 0.3 + 0.8


def test_without_a_decode_replica_rows_fail() -> None:
    lost = run([ask(), ask()], failures=[ReplicaFailure(DECODE, 0, 0.3)])
    assert (lost.num_failed_rows, lost.num_executed) == (2, 0)


def test_blocks_that_are_there_are_not_moved_again() -> None:
    """Eight of ten tokens are in blocks that the decode replica has from the row before, and in the prefill one's
    cache."""
    call = SimulatedCall("ask", POOL, (), None, 0, 10, 5, prefix_key=(1, 2))
    found = run([SimulatedRow((call,))] * 2, MOVED_IN_200_MS, window=1)
    assert found.makespan_s == pytest.approx((0.2 + 0.2 + 0.4) + (0.12 + 0.04 + 0.4))


@pytest.mark.parametrize(
    ("row", "num_replicas"),
    [
        (ask(num_prompt_tokens=400, num_output_tokens=2), (1, 3)),
        (ask(num_prompt_tokens=4, num_output_tokens=80), (3, 1)),
    ],
    ids=["long prompts", "long answers"],
)
def test_replicas_go_to_the_phase_that_is_too_small(row: SimulatedRow, num_replicas: tuple[int, int]) -> None:
    rows = [row] * 64
    stay = run(rows, num_replicas=num_replicas)
    flip = run(rows, num_replicas=num_replicas, flip=by_load)
    assert flip.makespan_s < 0.7 * stay.makespan_s
    assert (stay.pools[POOL].num_flips, flip.pools[POOL].num_flips > 0) == (0, True)
    for found in (stay, flip):
        assert (found.num_executed, found.num_failed_rows) == (64, 0)
        replica_s = found.pools[POOL].replica_s + found.pools[DECODE].replica_s
        assert replica_s == pytest.approx(4 * found.makespan_s), "nobody is rented or given back"


def test_a_replica_that_changes_its_role_ends_what_it_runs() -> None:
    """Both are asked at 1 s; the decode replica with nothing to do changes, and the other one decodes until 8.1 s."""
    once: Iterator[Flip | None] = iter(["to_prefill"])
    found = run([ask(num_output_tokens=80)], num_replicas=(1, 2), flip=lambda prefill, decode: next(once, None))
    looks = dict(zip(found.course.times_s, found.course.looks, strict=True))
    early, late = (looks[min(looks, key=lambda time_s: abs(time_s - at_s))] for at_s in (0.5, 2.0))
    assert [(look[POOL].num_replicas, look[DECODE].num_replicas) for look in (early, late)] == [(1, 2), (2, 1)]
    assert found.makespan_s == pytest.approx(0.2 + 79 * 0.1)


@settings(max_examples=30, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 12)), min_size=1, max_size=20),
    num_replicas=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    bandwidth=st.sampled_from([inf, 1e4, 50.0]),
    max_concurrency=st.integers(1, 4),
)
def test_the_work_is_that_of_the_phases_together(
    sizes: list[tuple[int, int]], num_replicas: tuple[int, int], bandwidth: float, max_concurrency: int
) -> None:
    rows = [ask(*size) for size in sizes]
    apart = run(rows, bandwidth, num_replicas=num_replicas, max_concurrency=max_concurrency)
    counts = [apart.pools[pool].counts for pool in (POOL, DECODE)]
    assert (apart.num_executed, apart.num_failed_rows) == (len(rows), 0)
    assert counts[0].num_prompt_tokens == sum(prompt for prompt, _ in sizes)
    assert sum(one.num_output_tokens for one in counts) == sum(output for _, output in sizes)
    one_by_one, together = run(rows, window=1), run(rows, None, window=1)
    busy_s = one_by_one.pools[POOL].busy_s + one_by_one.pools[DECODE].busy_s
    assert busy_s == pytest.approx(together.pools[POOL].busy_s)
    assert one_by_one.makespan_s == pytest.approx(together.makespan_s)
