"""The core: events in, actions out, the books checked after every event."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.sched.catalog import FCFS, PAST_FUTURE, PREFIX_GROUPED
from sundog.sched.core import SchedulerCore
from sundog.sched.events import (
    Abort,
    Action,
    Draining,
    Event,
    GiveUp,
    PoolOpened,
    PrefillEnded,
    ReplicaAdded,
    ReplicaDown,
    ReplicaUp,
    RequestArrived,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    Submit,
    TimerFired,
    WakeAt,
    WorkflowLeft,
)
from sundog.sched.facts import CallFacts
from sundog.sched.policy import PolicySet
from tests.sched.sets import SETS

Ends = list[tuple[int, int]]
"""A running request, and how it ends."""


class Driven:
    """A core whose books are checked after every event."""

    def __init__(
        self, policies: PolicySet, *replicas: int, max_tokens: int | None = None, num_blocks: int = 1000
    ) -> None:
        self.core = SchedulerCore(policies)
        for number, slots in enumerate(replicas):
            self.tell(ReplicaAdded(0.0, f"p/{number}", "p", slots, max_tokens, num_blocks))

    def tell(self, event: Event) -> list[Action]:
        actions = self.core.handle(event)
        self.core.check()
        return actions


def submitted(actions: list[Action]) -> list[tuple[str, str]]:
    return [(action.request_id, action.replica_id) for action in actions if isinstance(action, Submit)]


def arrived(request_id: str, time_s: float = 0.0, **more: object) -> RequestArrived:
    """A request for the pool `p`, of the workflow of its row where it has one."""
    workflow_id = str(more.get("workflow_order", ""))
    return replace(RequestArrived(time_s, request_id, "p"), workflow_id=workflow_id, **more)  # type: ignore[arg-type]  # fields by name


def test_concurrency_is_the_limit_and_order_is_arrival() -> None:
    core = Driven(FCFS, 2)
    started = [core.tell(arrived(name, float(index))) for index, name in enumerate("abcd")]
    assert [submitted(actions) for actions in started] == [[("a", "p/0")], [("b", "p/0")], [], []]
    assert submitted(core.tell(RequestFinished(9.0, "b"))) == [("c", "p/0")]
    assert submitted(core.tell(RequestFinished(9.0, "a"))) == [("d", "p/0")]


def test_requests_may_arrive_before_a_replica() -> None:
    core = Driven(FCFS)
    core.tell(PoolOpened(0.0, "p"))
    assert core.tell(arrived("a")) == []
    assert submitted(core.tell(ReplicaAdded(1.0, "p/0", "p", 1))) == [("a", "p/0")]


def test_load_spreads_over_replicas() -> None:
    core = Driven(FCFS, 2, 2)
    where = [submitted(core.tell(arrived(name)))[0][1] for name in "abcd"]
    assert where == ["p/0", "p/1", "p/0", "p/1"]


def test_token_budget_holds_back_the_next_and_keeps_order() -> None:
    core = Driven(FCFS, 8, max_tokens=1000)
    assert submitted(core.tell(arrived("big", 0.0, num_prompt_tokens=900)))
    assert not submitted(core.tell(arrived("second", 1.0, num_prompt_tokens=200)))
    assert not submitted(core.tell(arrived("small", 2.0, num_prompt_tokens=10))), "no overtaking: nobody starves"
    assert submitted(core.tell(RequestFinished(3.0, "big"))) == [("second", "p/0"), ("small", "p/0")]


def test_answers_that_were_short_make_room_for_more() -> None:
    """Each may have 500 tokens and has 10: once twenty answers are known, another fits beside the first."""
    core = Driven(PAST_FUTURE, 8, max_tokens=1000)
    more = {"num_prompt_tokens": 10, "num_expected_output_tokens": 500, "facts": CallFacts(node="short")}

    def num_together(turn: int) -> int:
        told = [core.tell(arrived(f"{turn}/{number}", float(turn), **more)) for number in range(8)]
        running = [name for actions in told for name, _ in submitted(actions)]
        num_running = len(running)
        for name in running:
            running += [one for one, _ in submitted(core.tell(RequestFinished(turn + 0.5, name, num_output_tokens=10)))]
        return num_running

    assert [num_together(turn) for turn in range(4)] == [1, 1, 1, 2]


def test_retry_waits_then_goes_elsewhere() -> None:
    core = Driven(FCFS, 1, 1)
    core.tell(arrived("a", max_attempts=2))
    (wake,) = core.tell(RequestFailed(1.0, "a", retryable=True))
    assert isinstance(wake, WakeAt)
    assert wake.time_s > 1.0
    assert core.tell(TimerFired(wake.time_s)) == [Submit("a", "p/1", 2)]
    assert core.tell(RequestFailed(9.0, "a", retryable=True)) == [GiveUp("a", 2)]
    assert core.core.num_unfinished == 0


@pytest.mark.parametrize("asked_s", [600.5, 86_400.0, float("inf"), float("nan")])
def test_a_wait_above_the_bound_is_not_begun(asked_s: float) -> None:
    core = Driven(FCFS, 1)
    core.tell(arrived("a", max_attempts=5, max_retry_wait_s=600.0))
    assert core.tell(RequestFailed(1.0, "a", True, asked_s)) == [GiveUp("a", 1, "wait")]


def test_a_wait_up_to_the_bound_names_who_waits() -> None:
    core = Driven(FCFS, 1)
    core.tell(arrived("a", max_attempts=5, max_retry_wait_s=600.0))
    assert core.tell(RequestFailed(1.0, "a", True, 600.0)) == [WakeAt(601.0, "a")]


def test_draining_gives_up_what_waits_for_another_attempt() -> None:
    """Now and from then on; what runs goes on to its end."""
    core = Driven(FCFS, 3)
    for name in "abc":
        core.tell(arrived(name, max_attempts=5))
    core.tell(RequestFailed(1.0, "b", True, 30.0))
    core.tell(RequestFailed(1.0, "a", True, 20.0))
    assert core.tell(Draining(2.0)) == [GiveUp("a", 1, "draining"), GiveUp("b", 1, "draining")]
    assert core.tell(RequestFailed(3.0, "c", True, 1.0)) == [GiveUp("c", 1, "draining")]
    assert core.core.num_unfinished == 0


def test_what_is_not_retryable_is_given_up_at_once() -> None:
    core = Driven(FCFS, 1)
    core.tell(arrived("a", max_attempts=5))
    assert core.tell(RequestFailed(1.0, "a", retryable=False)) == [GiveUp("a", 1)]


def test_one_request_warms_a_cold_prefix() -> None:
    core = Driven(PREFIX_GROUPED, 8)
    key = (1, 2, 3)
    assert submitted(core.tell(arrived("first", prefix_key=key)))
    for name in "bcd":
        assert core.tell(arrived(name, prefix_key=(*key, ord(name)))) == []
    released = submitted(core.tell(PrefillEnded(1.0, "first")))
    assert [name for name, _ in released] == ["b", "c", "d"]


def test_a_failed_prefill_lets_the_next_one_warm() -> None:
    core = Driven(PREFIX_GROUPED, 8)
    for name in "abc":
        core.tell(arrived(name, prefix_key=(1,)))
    actions = core.tell(RequestFailed(1.0, "a", retryable=False))
    assert submitted(actions) == [("b", "p/0")]
    assert [name for name, _ in submitted(core.tell(PrefillEnded(2.0, "b")))] == ["c"]


def test_those_who_arrive_together_are_ranked_together() -> None:
    """Rows of one document are not scattered by the slots that are free when the first of them comes."""
    core = Driven(PREFIX_GROUPED, 2, num_blocks=5)
    keys = {"a": (1, 10), "b": (2, 20), "c": (1, 11), "d": (2, 21)}
    told = [core.tell(arrived(name, prefix_key=key, more_follow=name != "d")) for name, key in keys.items()]
    assert [submitted(actions) for actions in told[:3]] == [[], [], []]
    # c waits for what a computes, and has the second slot.
    assert submitted(told[3]) == [("a", "p/0")]
    assert submitted(core.tell(PrefillEnded(1.0, "a"))) == [("c", "p/0")]


def test_a_row_between_two_steps_keeps_its_slot() -> None:
    core = Driven(PREFIX_GROUPED, 2, num_blocks=5)
    for index, name in enumerate("abc"):
        core.tell(arrived(name, workflow_order=index, prefix_key=(index,), has_successor=True))
    assert core.tell(RequestFinished(1.0, "a")) == [], "c must not take the slot of a's next step"
    assert submitted(core.tell(arrived("a2", 1.1, workflow_order=0, prefix_key=(0, 7)))) == [("a2", "p/0")]
    assert submitted(core.tell(RequestFinished(2.0, "a2"))) == [("c", "p/0")]


def test_a_row_that_left_gives_its_slot_up() -> None:
    core = Driven(PREFIX_GROUPED, 2, num_blocks=5)
    for index, name in enumerate("abc"):
        core.tell(arrived(name, workflow_order=index, prefix_key=(index,), has_successor=True))
    core.tell(RequestFinished(1.0, "a"))
    assert submitted(core.tell(WorkflowLeft(1.1, "p", "0"))) == [("c", "p/0")]
    assert core.tell(WorkflowLeft(1.2, "p", "0")) == []


def test_an_idle_replica_takes_what_comes() -> None:
    core = Driven(PREFIX_GROUPED, 1)
    core.tell(arrived("a", workflow_order=0, prefix_key=(1,), has_successor=True))
    core.tell(arrived("b", workflow_order=1, prefix_key=(2,)))
    assert submitted(core.tell(RequestFinished(1.0, "a"))) == [("b", "p/0")]


@pytest.mark.parametrize("state", ["running", "waiting", "parked", "delayed"])
def test_cancel_in_every_state(state: str) -> None:
    core = Driven(PREFIX_GROUPED, 2 if state == "parked" else 1)
    target = "a" if state in ("running", "delayed") else "b"
    core.tell(arrived("a", prefix_key=(1,), max_attempts=2))
    if state in ("waiting", "parked"):
        core.tell(arrived("b", prefix_key=(1,)))
    if state == "delayed":
        core.tell(RequestFailed(0.5, "a", retryable=True))
    actions = core.tell(RequestCancelled(1.0, target))
    assert (Abort(target) in actions) == (state == "running")
    assert core.core.num_unfinished == (0 if state in ("running", "delayed") else 1)


@given(
    policies=st.sampled_from(SETS),
    slots=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    keys=st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=1, max_size=12),
    choices=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 4)), max_size=120),
)
def test_every_request_ends_whatever_happens(
    policies: PolicySet, slots: list[int], keys: list[list[int]], choices: Ends
) -> None:
    """Random ends of random requests: the books hold, the same story gives the same actions, nothing is forgotten."""
    first, second = (_story(policies, slots, keys, choices) for _ in range(2))
    assert first == second


def _story(policies: PolicySet, slots: list[int], keys: list[list[int]], choices: Ends) -> list[Action]:
    core = Driven(policies, *slots)
    running: list[str] = []
    told: list[Action] = []
    ended: set[str] = set()
    time_s = 0.0

    def tell(event: Event) -> None:
        actions = core.tell(event)
        told.extend(actions)
        running.extend(action.request_id for action in actions if isinstance(action, Submit))
        ended.update(action.request_id for action in actions if isinstance(action, GiveUp))

    def end(request_id: str, how: int) -> None:
        if how == 0:
            tell(PrefillEnded(time_s, request_id))
            return
        running.remove(request_id)
        if how in (1, 2):
            ended.add(request_id)
            tell(RequestFinished(time_s, request_id))
            row = int(request_id[1:].rstrip("'"))
            if request_id == f"r{row}" and how == 1:
                names.append(f"{request_id}'")
                tell(arrived(names[-1], time_s, workflow_order=row, prefix_key=(*keys[row], 9), num_prompt_tokens=12))
            elif request_id == f"r{row}":
                tell(WorkflowLeft(time_s, "p", str(row)))
        else:
            tell(RequestFailed(time_s, request_id, retryable=how == 3))

    names = [f"r{index}" for index in range(len(keys))]
    for index, key in enumerate(keys):
        more = {"max_attempts": 2, "has_successor": True, "more_follow": index % 3 == 0 and index + 1 < len(keys)}
        tell(arrived(names[index], workflow_order=index, prefix_key=tuple(key), num_prompt_tokens=10, **more))
    for pick, how in choices:
        time_s += 1.0
        if how == 0 and pick % 4 == 0:
            tell(ReplicaDown(time_s, f"p/{pick % len(slots)}"))
        elif how == 0 and pick % 4 == 1:
            tell(ReplicaUp(time_s, f"p/{pick % len(slots)}"))
        elif how == 0 and pick == 42:
            tell(Draining(time_s))
        elif running:
            end(running[pick % len(running)], how)
    for number in range(len(slots)):
        tell(ReplicaUp(time_s, f"p/{number}"))
    while len(ended) < len(names):
        time_s += 100.0
        tell(TimerFired(time_s))
        for request_id in list(running):
            end(request_id, 1)
    assert core.core.num_unfinished == 0
    return told
