"""Retention as tables: how long blocks are kept while a tool runs, and which blocks go first."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.sched.books.samples import RecentSamplesByKey
from sundog.sched.policies.retention import (
    COLD_S,
    MIN_TOOL_SAMPLES,
    continuum_ttl,
    farthest_use_first,
    latest_program_first,
    least_recently_used,
)
from sundog.sched.policy import EvictRank
from sundog.sched.views import BlockView, ReplicaView, SchedView, WorkflowView
from tests.sched.sets import REGISTERED

FAST, SLOW = (1.0,) * 15 + (60.0,) * 5, tuple(float(10 * number) for number in range(1, 21))


def tool_times(**times_s: Sequence[float]) -> RecentSamplesByKey[str]:
    """`all`: of all tools together."""
    found: RecentSamplesByKey[str] = RecentSamplesByKey(100, 9)
    for tool, samples in times_s.items():
        for sample in samples:
            found.add("" if tool == "all" else tool, sample)
    return found


def ttl_s(sched: SchedView, num_held_tokens: int = 1000, tool: str = "test", limit: int | None = 4000) -> float:
    workflow = WorkflowView("w", 0.0, num_held_tokens=num_held_tokens, tool=tool)
    return continuum_ttl(workflow, ReplicaView("p/0", "p", 8, limit), sched)


PREFILL_TOKEN_S = 0.01


@pytest.mark.parametrize(
    ("why", "times", "num_waiting", "requeue_s", "correlation", "expected"),
    [
        ("B = 10 s, cost 1: the fast ones are worth it, the slow ones not", {"test": FAST}, 4, 0.0, -1.0, 1.0),
        ("nobody waits: as long as ever seen", {"test": FAST}, 0, 0.0, -1.0, 60.0),
        ("forty wait: 1 s costs 10, and saves 3/4 of 10", {"test": FAST}, 40, 0.0, -1.0, 0.0),
        ("a long queue to come back to", {"test": FAST}, 4, 300.0, -1.0, 60.0),
        ("which turns done tell nothing about", {"test": FAST}, 4, 300.0, 0.0, 1.0),
        ("programs that go on and on have no end to hurry to", {"test": FAST}, 4, 300.0, 1.0, 0.0),
        ("every 10 s one in twenty more, for 10 s of B", {"test": SLOW}, 4, 0.0, -1.0, 0.0),
        ("few samples of this tool: those of all", {"test": FAST[:5], "all": FAST}, 4, 0.0, -1.0, 1.0),
        ("few of all", {"test": FAST[:5], "all": FAST[:19]}, 4, 0.0, -1.0, COLD_S),
        ("none", {}, 4, 0.0, -1.0, COLD_S),
    ],
)
def test_continuum_ttl(
    why: str, times: dict[str, Sequence[float]], num_waiting: int, requeue_s: float, correlation: float, expected: float
) -> None:
    sched = SchedView(
        num_queued=num_waiting,
        prefill_token_s=PREFILL_TOKEN_S,
        tool_times_s=tool_times(**times),
        requeue_s=requeue_s,
        turns_correlation=correlation,
    )
    assert ttl_s(sched) == expected, why


def test_without_a_known_capacity_a_second_costs_a_second() -> None:
    sched = SchedView(num_queued=40, prefill_token_s=PREFILL_TOKEN_S, tool_times_s=tool_times(test=FAST))
    assert (ttl_s(sched), ttl_s(sched, limit=None)) == (0.0, 1.0)


@given(
    samples=st.lists(st.floats(0.001, 1000), min_size=MIN_TOOL_SAMPLES, max_size=60),
    num_waiting=st.integers(0, 50),
    num_held_tokens=st.integers(0, 4000),
    requeue_s=st.floats(0, 100),
    correlation=st.floats(-1, 1),
)
def test_a_ttl_is_0_or_a_sample_and_no_other_sample_is_worth_more(
    samples: list[float], num_waiting: int, num_held_tokens: int, requeue_s: float, correlation: float
) -> None:
    sched = SchedView(
        num_queued=num_waiting,
        prefill_token_s=PREFILL_TOKEN_S,
        tool_times_s=tool_times(test=samples),
        requeue_s=requeue_s,
        turns_correlation=correlation,
    )
    found = ttl_s(sched, num_held_tokens)
    assert found == 0 or found in samples

    def utility_s(time_s: float) -> float:
        share = sum(sample <= time_s for sample in samples) / len(samples)
        benefit_s = num_held_tokens * PREFILL_TOKEN_S - correlation * requeue_s
        return share * benefit_s - num_waiting * num_held_tokens / 4000 * time_s

    best_s = max(0.0, *map(utility_s, samples))
    assert (utility_s(found) if found else 0.0) == pytest.approx(best_s, abs=1e-6)


@pytest.mark.parametrize(
    ("steps_to_next_use", "expected"), [(None, {"continuum": COLD_S}), (3.0, {"continuum": COLD_S, "kvflow": 600.0})]
)
def test_who_keeps_anything(steps_to_next_use: float | None, expected: dict[str, float]) -> None:
    workflow = WorkflowView("w", 0.0, num_held_tokens=1000, steps_to_next_use=steps_to_next_use)
    replica = ReplicaView("p/0", "p", 8, 4000)
    kept = {name: one.retain(workflow, replica, SchedView()) for name, one in REGISTERED.items()}
    assert {name: kept_s for name, kept_s in kept.items() if kept_s} == expected


NOW_S = 100.0
PROGRAMS = {name: WorkflowView(name, arrival_s) for name, arrival_s in (("first", 1.0), ("last", 2.0))}
BLOCKS = {
    "old": BlockView(last_used_s=10.0, depth=3),
    "old, deeper": BlockView(last_used_s=10.0, depth=4),
    "recent": BlockView(last_used_s=90.0),
    "first program's": BlockView(20.0, 0, "first", retained_until_s=101.0, steps_to_next_use=1.0),
    "last program's": BlockView(30.0, 0, "last", retained_until_s=101.0, steps_to_next_use=2.0),
    "kept too long": BlockView(40.0, 0, "last", retained_until_s=NOW_S, steps_to_next_use=7.0),
    "of a program that ended": BlockView(50.0, 0, "gone", retained_until_s=101.0),
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "vllm_default",
            "old, deeper|old|first program's|last program's|kept too long|of a program that ended|recent",
        ),
        (
            "continuum",
            "old, deeper|old|kept too long|of a program that ended|recent|last program's|first program's",
        ),
        (
            "kvflow",
            "old, deeper|old|of a program that ended|recent|kept too long|last program's|first program's",
        ),
    ],
)
def test_which_blocks_go_first(name: str, expected: str) -> None:
    sched = SchedView(time_s=NOW_S, workflows=PROGRAMS)
    rank = REGISTERED[name].evict_rank
    assert sorted(BLOCKS, key=lambda block: rank(BLOCKS[block], sched)) == expected.split("|")


def num_hits(rank: EvictRank, num_agents: int, num_cached: int, *, is_retained: bool = False) -> int:
    """Agents in turns, each with one block, ten turns each."""
    workflows = {str(agent): WorkflowView(str(agent), float(agent)) for agent in range(num_agents)}
    cache: dict[int, BlockView] = {}
    hits = 0
    for time_s in range(10 * num_agents):
        agent = time_s % num_agents
        hits += agent in cache
        sched = SchedView(time_s=time_s, workflows=workflows)
        for other, block in cache.items():
            block.steps_to_next_use = (other - agent) % num_agents
        if agent not in cache and len(cache) == num_cached:
            del cache[min(cache, key=lambda one: rank(cache[one], sched))]
        until_s = float("inf") if is_retained else 0.0
        cache[agent] = BlockView(time_s, workflow_id=str(agent), retained_until_s=until_s)
    return hits


def test_agents_in_turns_and_a_cache_for_three_of_four() -> None:
    """Least recently used evicts the one that is next, every time; a known use keeps two of three others."""
    assert num_hits(least_recently_used, 4, 3) == 0
    assert num_hits(farthest_use_first, 4, 3) == 24
    assert num_hits(latest_program_first, 4, 3, is_retained=True) == 18
    assert num_hits(latest_program_first, 4, 3) == 0
