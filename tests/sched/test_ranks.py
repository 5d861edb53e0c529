"""Ranks as tables: of two requests, which one runs first, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.sched.books.samples import RecentSamplesByKey
from sundog.sched.facts import TIERS, CallFacts
from sundog.sched.policy import PolicySet
from sundog.sched.views import RequestView, SchedView, WorkflowView
from tests.sched.sets import REGISTERED, SETS

NOW_S = 100.0
LENGTHS: RecentSamplesByKey[tuple[str, str]] = RecentSamplesByKey(max_samples=50, max_keys=4)
for length in range(20, 40):
    LENGTHS.add(("short", "m"), length)
    LENGTHS.add(("long", "m"), 10 * length)

WORKFLOWS = (
    WorkflowView("old", 1.0, num_attained_tokens=5000, num_remaining_tokens=10),
    WorkflowView("new", 9.0, num_attained_tokens=100, num_remaining_tokens=4000),
    WorkflowView("kept", 50.0, num_attained_tokens=450, retained_until_s=90.0),
)
SCHED = SchedView(
    time_s=NOW_S,
    prefill_token_s=0.01,
    decode_token_s=0.1,
    output_lengths=LENGTHS,
    virtual_tokens={"greedy": 900.0, "modest": 20.0},
    workflows={workflow.workflow_id: workflow for workflow in WORKFLOWS},
    step_places={"begins": 0, "follows": 1},
)
PLAIN = RequestView("r", "p", arrival_time=80.0, num_prompt_tokens=100, num_expected_output_tokens=50, model="m")

CASES = [
    ("vllm_default", "priority before arrival", {"priority": -1, "arrival_time": 99.0}, {}),
    ("vllm_default", "then arrival", {"arrival_time": 1.0}, {"workflow_id": "old"}),
    ("past_future", "the order is vLLM's", {"priority": -1, "arrival_time": 99.0}, {}),
    ("kvflow", "the order is vLLM's", {"arrival_time": 1.0}, {}),
    ("round_robin", "the order is vLLM's", {"priority": -1, "arrival_time": 99.0}, {}),
    ("llumnix", "the order is vLLM's", {"arrival_time": 1.0}, {}),
    ("fcfs", "arrival, whatever the priority", {"arrival_time": 1.0}, {"priority": -1}),
    ("continuum", "the program that arrived first", {"workflow_id": "old", "arrival_time": 95.0}, {}),
    ("continuum", "before it, one whose blocks are kept", {"workflow_id": "kept"}, {"workflow_id": "old"}),
    ("continuum", "too late for them", {"workflow_id": "new"}, {"workflow_id": "kept", "arrival_time": 91.0}),
    ("continuum", "before all, one that was preempted", {"num_preemptions": 1}, {"workflow_id": "kept"}),
    ("shortest_remaining", "a shorter answer", {"num_expected_output_tokens": 49}, {"arrival_time": 1.0}),
    ("shortest_remaining", "what is computed does not count", {"num_computed_tokens": 90}, {"num_prompt_tokens": 20}),
    ("shortest_remaining", "what is produced does not count", {"num_output_tokens": 40}, {"num_prompt_tokens": 80}),
    ("shortest_remaining", "calls to come count", {"num_prompt_tokens": 4000}, {"workflow_id": "new"}),
    ("shortest_remaining", "seen lengths, not the bound", {"node": "short", "max_tokens": 999}, {}),
    ("shortest_remaining", "longer than told", {}, {"node": "long", "max_tokens": 999}),
    ("least_attained_service", "the program that had least", {"workflow_id": "new"}, {"workflow_id": "old"}),
    ("least_attained_service", "by quanta of 400", {"workflow_id": "new", "arrival_time": 9.0}, {"arrival_time": 10.0}),
    ("least_attained_service", "450 are a quantum more", {"num_computed_tokens": 399}, {"workflow_id": "kept"}),
    ("critical_path", "more steps after it", {"successor_path_s": 3.0}, {"arrival_time": 1.0}),
    ("critical_path", "its own time counts", {"num_expected_output_tokens": 60}, {"successor_path_s": 0.9}),
    ("critical_path", "and the time of what is done does not", {}, {"num_computed_tokens": 100}),
    ("critical_path", "of equals what the plan needs soonest", {"need_s": 1.0}, {"need_s": 2.0, "arrival_time": 1.0}),
    ("fair_share", "the tenant with least service", {"tenant": "modest"}, {"tenant": "greedy", "arrival_time": 1.0}),
    ("fair_share", "a new one has had none", {"tenant": "new"}, {"tenant": "modest", "arrival_time": 1.0}),
    ("fair_share", "within a tenant programs as they came", {"workflow_id": "old"}, {"arrival_time": 2.0}),
    ("slack_edf", "earliest deadline", {"deadline_s": 120.0}, {"deadline_s": 121.0, "arrival_time": 1.0}),
    ("slack_edf", "a deadline before none", {"deadline_s": 999.0}, {"arrival_time": 1.0}),
    ("slack_edf", "6 s of work do not fit into 5", {"deadline_s": 107.0}, {"deadline_s": 105.0}),
    ("slack_edf", "one that is lost comes last", {}, {"deadline_s": 105.0, "arrival_time": 1.0}),
    ("slack_edf", "steps after it count", {}, {"deadline_s": 107.0, "successor_path_s": 2.0, "arrival_time": 1.0}),
    ("slack_edf", "the lost as they came", {"deadline_s": 99.0, "arrival_time": 1.0}, {"deadline_s": 105.0}),
    ("live", "a tier before a priority", {"arrival_time": 99.0}, {"tier": "flex", "priority": -9}),
    ("live", "a tier before a deadline", {}, {"tier": "flex", "deadline_s": 110.0}),
    ("live", "batch comes last", {"tier": "flex", "deadline_s": 99.0}, {"tier": "batch", "priority": -9}),
    ("live", "priority before deadline", {"priority": -1}, {"deadline_s": 110.0}),
    ("live", "earliest deadline", {"deadline_s": 120.0}, {"deadline_s": 121.0, "arrival_time": 1.0}),
    ("live", "a deadline before none", {"deadline_s": 999.0}, {"arrival_time": 1.0}),
    ("live", "one that is lost comes last", {"priority": 2}, {"deadline_s": 105.0, "priority": -2}),
    ("live", "but in its tier alone", {"deadline_s": 105.0}, {"tier": "flex"}),
    ("live", "the lost by priority", {"deadline_s": 105.0, "priority": -1}, {"deadline_s": 99.0, "arrival_time": 1.0}),
    ("live", "then as they came", {"deadline_s": 105.0, "arrival_time": 1.0}, {"deadline_s": 99.0}),
    ("live", "the program that arrived first", {"workflow_id": "old", "arrival_time": 95.0}, {"workflow_id": "new"}),
    ("live", "the root of its parents", {"root_program": "old", "workflow_id": "kept"}, {"workflow_id": "new"}),
    (
        "prefix_grouped",
        "what extends its row's last call",
        {"prefix_order": (9,), "prefix_key": (9,), "num_inherited_blocks": 1},
        {"prefix_order": (1,)},
    ),
    (
        "prefix_grouped",
        "before that, where engines take turns, the step that the plan has first",
        {"node": "begins", "prefix_order": (9,), "workflow_order": 9},
        {"node": "follows", "prefix_order": (1,), "prefix_key": (1,), "num_inherited_blocks": 1},
    ),
    (
        "prefix_grouped",
        "within a step prefixes side by side",
        {"node": "follows", "prefix_order": (1,), "workflow_order": 9},
        {"node": "follows", "prefix_order": (9,)},
    ),
]


def changed(request: RequestView, changes: dict[str, object]) -> RequestView:
    """The request with other fields, its own or those of its facts."""
    own = {name: value for name, value in changes.items() if hasattr(request, name)}
    facts = {name: value for name, value in changes.items() if name not in own}
    return replace(request, facts=replace(request.facts, **facts), **own)  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(("name", "why", "first", "second"), CASES)
def test_who_runs_first(name: str, why: str, first: dict[str, object], second: dict[str, object]) -> None:
    rank = REGISTERED[name].rank
    ranks = [rank(changed(PLAIN, changes), SCHED) for changes in (first, second)]
    assert ranks[0] < ranks[1], why


def test_every_set_has_a_row_in_the_table() -> None:
    assert {name for name, *_ in CASES} == set(REGISTERED)


TOKENS = st.integers(0, 3000)
SECONDS = st.floats(0, 300)
REQUESTS = st.builds(
    RequestView,
    request_id=st.text(max_size=3),
    pool=st.just("p"),
    arrival_time=SECONDS,
    workflow_order=st.integers(0, 9),
    depth=st.integers(0, 3),
    num_prompt_tokens=TOKENS,
    num_expected_output_tokens=TOKENS,
    max_tokens=TOKENS,
    num_computed_tokens=TOKENS,
    num_output_tokens=TOKENS,
    num_preemptions=st.integers(0, 2),
    prefix_order=st.lists(st.integers(0, 9), max_size=3).map(tuple),
    workflow_id=st.sampled_from(["", "old", "new", "kept", "unknown"]),
    node=st.sampled_from(["", "short", "long", "begins", "follows"]),
    model=st.just("m"),
    deadline_s=st.none() | SECONDS,
    facts=st.builds(
        CallFacts,
        tenant=st.sampled_from(["", "greedy", "modest"]),
        successor_path_s=SECONDS,
        priority=st.integers(-2, 2),
        tier=st.sampled_from(TIERS),
        root_program=st.sampled_from(["", "old", "unknown"]),
    ),
)


@given(
    policies=st.sampled_from(SETS),
    both=st.lists(REQUESTS, max_size=8).flatmap(lambda found: st.tuples(st.just(found), st.permutations(found))),
    is_roomy=st.booleans(),
)
def test_a_rank_is_a_total_order_and_depends_on_views_alone(
    policies: PolicySet, both: tuple[list[RequestView], list[RequestView]], is_roomy: bool
) -> None:
    """The same requests rank the same in whatever order they are looked at."""
    requests, shuffled = both
    sched = replace(SCHED, num_seen_blocks=1, num_cache_blocks=2 * is_roomy)
    ranks = [policies.rank(request, sched) for request in requests]
    assert ranks == [policies.rank(replace(request), sched) for request in requests]
    assert all(part == part for rank in ranks for part in rank), "not a number has no place in an order"
    assert sorted(ranks) == sorted(policies.rank(request, sched) for request in shuffled)
