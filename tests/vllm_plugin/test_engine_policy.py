"""A policy set at work: what it is asked, with what knowledge, and what is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sundog.sched import catalog
from sundog.sched.books.turns import TurnCounts
from sundog.sched.policy import Admitted, Deferred, PolicySet
from sundog.sched.views import EngineStepView, ReplicaView, RequestView, SchedView
from sundog.vllm_plugin.drafts import MAX_STEPS_WITHOUT, Drafts
from sundog.vllm_plugin.engine_policy import EnginePolicy
from sundog.vllm_plugin.free_blocks import TwoTierQueue
from sundog.vllm_plugin.telemetry import StepTelemetry, Telemetry
from sundog.vllm_plugin.victims import worst_last
from tests.vllm_plugin.fakes import FakeBlock, FakeFreeBlocks, FakeRequest, books, request


def at_work(policy: PolicySet | None, num_blocks: int = 10) -> EnginePolicy:
    made = EnginePolicy(policy, books(), block_size=16, max_draft_tokens=4)
    made.free_blocks = TwoTierQueue(
        FakeFreeBlocks([FakeBlock(number) for number in range(num_blocks)]), made.evict_rank
    )
    return made


def run(policy: EnginePolicy, one: FakeRequest, *, num_output_tokens: int = 8, end_s: float = 0.0) -> list[FakeBlock]:
    """Take a request from its arrival to its end, and return its blocks, which are free then."""
    assert policy.free_blocks is not None
    policy.arrive(one)
    policy.start_new([one], {})
    blocks = [FakeBlock(block.block_id, 1, block_hash=b"full") for block in policy.free_blocks.popleft_n(2)]
    one.num_output_tokens = num_output_tokens
    policy.end_step(end_s, StepTelemetry(0, 0.0))
    policy.end(one, blocks, is_whole=True)
    for block in blocks:
        block.ref_cnt = 0
    policy.free_blocks.append_n(list(reversed(blocks)))
    return blocks


def test_a_bad_envelope_is_passed_over_and_counted() -> None:
    policy = at_work(catalog.CONTINUUM)
    bad = request("a", trun=1)
    assert "trun" in str(policy.arrive(bad))
    assert (policy.rank_of(bad), policy.num_bad_envelopes, policy.is_idle) == (None, 1, True)
    assert policy.arrive(request("b", workflow="w")) is None
    assert not policy.is_idle


def test_what_the_envelope_says_is_what_policies_see() -> None:
    policy = at_work(catalog.CONTINUUM)
    policy.arrive(
        request("a", 5.0, flow="f", node="n", workflow="w", turn=2, last_turn=False, deadline_s=9, tenant="t",
                expected_output_tokens=7, remaining_tokens=50)
    )  # fmt: skip
    view = policy.books.requests["a"]
    assert (view.node, view.workflow_id, view.depth) == ("f/n", "w", 2)
    assert (view.facts.is_last_turn, view.facts.tenant) == (False, "t")
    assert (view.deadline_s, view.num_expected_output_tokens, view.max_output_tokens) == (14.0, 7, 32)
    assert len(view.prefix_key) == 4
    workflow = policy.books.workflow_book.by_id["w"]
    assert (workflow.arrival_s, workflow.num_remaining_tokens, workflow.deadline_s) == (5.0, 50, 14.0)


def test_durations_of_tools_and_lengths_of_answers_are_remembered() -> None:
    policy = at_work(catalog.CONTINUUM)
    run(policy, request("a", workflow="w", node="n", last_turn=False, tool="grep"), num_output_tokens=12, end_s=10.0)
    run(policy, request("b", 13.0, workflow="w", node="n", turn=1), num_output_tokens=20, end_s=14.0)
    assert {tool: list(times.ordered) for tool, times in policy.books.sched.tool_times_s.items()} == {
        "grep": [3],
        "": [3],
    }
    assert list(policy.books.sched.output_lengths["/n", "tiny"].ordered) == [12, 20]
    assert policy.books.workflow_book.by_id == {}
    assert policy.books.requests == {}
    assert policy.books.replica.num_running == policy.books.replica.num_open_workflows == 0
    assert policy.books.replica.running.num_tokens == 0


def test_blocks_are_kept_between_turns_and_handed_over_to_the_next() -> None:
    policy = at_work(catalog.CONTINUUM)
    assert policy.free_blocks is not None
    run(policy, request("a", workflow="w", last_turn=False), end_s=10.0)
    assert policy.free_blocks.num_kept_blocks == 2
    policy.begin_step(11.0, num_waiting=0)
    assert policy.books.replica.num_retained_tokens == 32
    second = request("b", 11.0, workflow="w", turn=1)
    policy.arrive(second)
    policy.start_new([second], {})
    assert policy.free_blocks.holds == {}


def test_blocks_are_kept_no_longer_than_the_policy_says() -> None:
    policy = at_work(replace(catalog.CONTINUUM, retain=lambda workflow, replica, sched: 5.0))
    assert policy.free_blocks is not None
    run(policy, request("a", workflow="w", last_turn=False), end_s=10.0)
    policy.begin_step(14.9, num_waiting=0)
    assert policy.free_blocks.num_kept_blocks == 2
    policy.begin_step(15.0, num_waiting=0)
    assert (policy.free_blocks.num_kept_blocks, policy.free_blocks.num_free_blocks) == (0, 10)


def test_blocks_are_kept_for_twice_the_pause_that_is_told() -> None:
    policy = at_work(catalog.CONTINUUM)
    assert policy.free_blocks is not None
    about = request("a", workflow="w", last_turn=False, tool="look", tool_share=0.8, expected_pause_s=7.0)
    run(policy, about, end_s=10.0)
    policy.begin_step(23.9, num_waiting=0)
    assert policy.free_blocks.num_kept_blocks == 2
    policy.begin_step(24.0, num_waiting=0)
    assert policy.free_blocks.num_kept_blocks == 0


@pytest.mark.parametrize("envelope", [{"workflow": "w"}, {"workflow": "w", "last_turn": True, "turn": 3}, {}])
def test_nothing_is_kept_where_nothing_follows(envelope: dict[str, Any]) -> None:
    policy = at_work(catalog.CONTINUUM)
    assert policy.free_blocks is not None
    run(policy, request("a", **envelope))
    assert policy.free_blocks.num_kept_blocks == 0


def test_the_farthest_use_is_given_up_first() -> None:
    policy = at_work(catalog.KVFLOW)
    assert policy.free_blocks is not None
    blocks = {
        steps: run(policy, request(f"r{steps}", workflow=f"w{steps}", last_turn=False, steps_to_next_use=steps))
        for steps in (2, 9, 4)
    }
    policy.free_blocks.popleft_n(4)
    given = [block.block_id for block in policy.free_blocks.popleft_n(6)]
    assert given == [block.block_id for steps in (9, 4, 2) for block in reversed(blocks[steps])]


def refuse(view: RequestView, replica: ReplicaView, sched: SchedView) -> Admitted | Deferred:
    return Deferred()


def test_admission_asks_for_ranked_requests_beside_running_ones_only() -> None:
    policy = at_work(replace(catalog.CONTINUUM, admit=(refuse,)))
    ranked, other, running = request("a", workflow="w"), request("b"), request("c")
    for one in (ranked, other, running):
        policy.arrive(one)
    assert policy.admits(ranked, [])
    assert not policy.admits(ranked, [running])
    assert policy.admits(other, [running])
    ranked.num_computed_tokens = 16
    assert policy.admits(ranked, [running])


def test_admission_sees_what_started_in_the_same_step() -> None:
    seen: list[list[str]] = []

    def note(view: RequestView, replica: ReplicaView, sched: SchedView) -> Admitted:
        seen.append(sorted(replica.requests))
        return Admitted()

    policy = at_work(replace(catalog.CONTINUUM, admit=(note,)))
    running: list[FakeRequest] = []
    for name in "abc":
        one = request(name, workflow=name)
        policy.arrive(one)
        policy.admits(one, running)
        running.append(one)
    assert seen == [["a"], ["a", "b"]]


def test_a_preempted_request_is_no_longer_among_what_runs() -> None:
    policy = at_work(catalog.CONTINUUM)
    one = request("a", workflow="w")
    policy.arrive(one)
    policy.start_new([one], {})
    before = policy.rank_of(one)
    policy.preempt(one)
    assert (policy.books.replica.requests, policy.num_preempted) == ({}, 1)
    after = policy.rank_of(one)
    assert before is not None
    assert after is not None
    assert after < before


def test_tenants_are_charged_for_what_was_computed() -> None:
    policy = at_work(catalog.FAIR_SHARE)
    cheap, dear = request("a", tenant="cheap"), request("b", tenant="dear")
    for one in (cheap, dear):
        policy.arrive(one)
    policy.start_new([cheap, dear], {})
    dear.num_output_tokens = 50
    policy.see_running([cheap, dear])
    assert dict(policy.books.sched.virtual_tokens) == {"cheap": 64, "dear": 164}


def test_the_worst_rank_goes_last_and_others_keep_their_places() -> None:
    ranks: dict[str, tuple[float, ...] | None] = {"a": (5,), "x": None, "b": (1,), "y": None, "c": (3,)}
    assert worst_last(list("axbyc"), ranks.__getitem__) == list("bxcya")


def test_drafts_follow_what_is_accepted() -> None:
    drafts = Drafts(catalog.CONTINUUM.draft, 4)
    assert drafts.length(8, SchedView()) == 4
    for num_tokens in (8, 40):
        drafts.measure(num_tokens, 0.010 + 0.001 * num_tokens)
    for _ in range(50):
        drafts.verified(4, 0)
    assert drafts.length(8, SchedView()) == 0
    for _ in range(MAX_STEPS_WITHOUT):
        drafts.length(8, SchedView())
    assert drafts.length(8, SchedView()) == 4
    for _ in range(50):
        drafts.verified(4, 4)
    assert drafts.acceptance_rate == 1.0
    assert drafts.length(8, SchedView()) == 4


def test_an_acceptance_rate_is_of_those_that_were_tried() -> None:
    drafts = Drafts(lambda step, sched: step.max_draft_tokens, 4)
    drafts.verified(4, 1)
    assert drafts.acceptance_rate == 0.5


def test_only_ranked_requests_get_shorter_drafts() -> None:
    def one_token(step: EngineStepView, sched: SchedView) -> int:
        assert step.num_requests == 2
        return 1

    policy = at_work(replace(catalog.CONTINUUM, draft=one_token))
    ranked, other, none = request("a", workflow="w"), request("b"), request("c", workflow="w")
    for one in (ranked, other, none):
        policy.arrive(one)
    ranked.spec_token_ids, other.spec_token_ids = [1, 2, 3], [4, 5, 6]
    policy.cut_drafts([ranked, other, none])
    assert (ranked.spec_token_ids, other.spec_token_ids, none.spec_token_ids) == ([1], [4, 5, 6], [])


def test_telemetry_keeps_the_last_steps_and_their_times() -> None:
    telemetry = Telemetry(2)
    outputs = [object() for _ in range(4)]
    for number, output in enumerate(outputs):
        telemetry.begin(output, float(number)).add(5, 10, 20)
    # Two ahead, as with async scheduling; nobody ends the second.
    assert telemetry.end(outputs[0], 2.5) is not None
    assert telemetry.end(outputs[2], 4.0) is not None
    assert telemetry.end(outputs[3], 4.5) is not None
    assert telemetry.end(outputs[1], 9.0) is None
    assert [(step["number"], step["elapsed_s"]) for step in telemetry.since(0)] == [(2, 1.5), (3, 0.5)]
    assert [step["number"] for step in telemetry.since(3)] == [3]
    assert telemetry.num_steps == 4


def test_a_step_counts_prefill_and_decode_apart() -> None:
    step = StepTelemetry(0, 0.0)
    step.add(10, 20, 100)
    step.add(1, 40, 41)
    assert (step.num_prefill_tokens, step.num_attention_pairs) == (10, 250.0)
    assert (step.num_decode_tokens, step.num_context_tokens) == (1, 40)


def test_turns_done_tell_of_turns_left() -> None:
    turns = TurnCounts()
    assert turns.correlation == -1.0
    turns.add(4)
    assert turns.correlation == pytest.approx(-1.0)
    turns.add(40)
    assert -1.0 < turns.correlation < 0.0
