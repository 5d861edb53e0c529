"""The core under a host that lives longer than one batch: pools and replicas come and go, flows share step names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.sched.catalog import FCFS, PAST_FUTURE, PREFIX_GROUPED
from sundog.sched.events import (
    Action,
    GiveUp,
    PoolClosed,
    PoolOpened,
    ReplicaAdded,
    ReplicaDown,
    ReplicaDraining,
    ReplicaLimited,
    ReplicaLost,
    ReplicaRemoved,
    RequestFailed,
    RequestFinished,
    StepDrained,
    Submit,
    TimerFired,
    Unload,
    WorkerAdded,
    WorkerPlanned,
)
from sundog.sched.facts import CallFacts
from tests.sched.test_core import Driven, arrived, submitted


def test_a_replica_that_no_worker_loaded_drains_and_goes() -> None:
    core = Driven(FCFS, 1, 1)
    for name in "abcd":
        core.tell(arrived(name))
    assert core.tell(ReplicaDraining(1.0, "p/0")) == [], "a still runs there"
    assert core.tell(RequestFinished(2.0, "a")) == [Unload("p/0")]
    core.tell(ReplicaRemoved(3.0, "p/0"))
    assert submitted(core.tell(RequestFinished(4.0, "b"))) == [("c", "p/1")]
    assert submitted(core.tell(RequestFinished(5.0, "c"))) == [("d", "p/1")], "what waited at p/0 has gone to p/1"


def test_an_idle_replica_is_unloaded_at_once_and_a_down_one_may_just_be_removed() -> None:
    core = Driven(FCFS, 1, 1)
    assert core.tell(ReplicaDraining(1.0, "p/0")) == [Unload("p/0")]
    core.tell(ReplicaRemoved(1.0, "p/0"))
    core.tell(ReplicaDown(2.0, "p/1"))
    core.tell(ReplicaRemoved(2.0, "p/1"))
    assert core.tell(arrived("a", 3.0)) == [], "the pool is open: it waits for a replica"
    assert submitted(core.tell(ReplicaAdded(4.0, "p/2", "p", 1))) == [("a", "p/2")]


def test_a_limit_that_falls_starts_nothing_until_it_is_reached_and_one_that_rises_starts_at_once() -> None:
    core = Driven(FCFS, 3)
    for name in "abcdef":
        core.tell(arrived(name))
    assert core.tell(ReplicaLimited(1.0, "p/0", 1)) == [], "a, b and c run on"
    assert core.tell(RequestFinished(2.0, "a")) == core.tell(RequestFinished(3.0, "b")) == []
    assert submitted(core.tell(RequestFinished(4.0, "c"))) == [("d", "p/0")]
    assert submitted(core.tell(ReplicaLimited(5.0, "p/0", 3))) == [("e", "p/0"), ("f", "p/0")]


def test_a_limit_of_nothing_lets_all_wait_and_one_full_replica_does_not_hide_another_ones_room() -> None:
    core = Driven(FCFS, 0)
    assert core.tell(arrived("a")) == []
    assert submitted(core.tell(ReplicaLimited(1.0, "p/0", 2))) == [("a", "p/0")]
    assert submitted(core.tell(arrived("b", 2.0))) == [("b", "p/0")]
    core.tell(ReplicaLimited(3.0, "p/0", 0))
    core.tell(ReplicaAdded(4.0, "p/1", "p", 2))
    assert submitted(core.tell(arrived("c", 5.0))) == [("c", "p/1")], (
        "two beyond a limit and two free are not none free"
    )
    core.tell(ReplicaDown(6.0, "p/0"))
    core.tell(ReplicaLimited(7.0, "p/0", 9))
    assert submitted(core.tell(arrived("d", 8.0))) == [("d", "p/1")]
    assert core.tell(arrived("e", 9.0)) == [], "p/1 is full, and p/0 is down with whatever limit"


def test_what_waits_at_a_replica_that_may_take_none_goes_elsewhere() -> None:
    core = Driven(FCFS, 1, 1)
    for name in "abcd":
        core.tell(arrived(name))
    core.tell(ReplicaLimited(1.0, "p/0", 0))
    assert core.tell(RequestFinished(2.0, "a")) == []
    assert submitted(core.tell(RequestFinished(3.0, "b"))) == [("c", "p/1")]
    assert submitted(core.tell(RequestFinished(4.0, "c"))) == [("d", "p/1")]


def test_a_limit_of_tokens_changes_with_that_of_requests() -> None:
    core = Driven(PAST_FUTURE, 4, max_tokens=100)
    core.tell(arrived("a", num_prompt_tokens=90))
    assert core.tell(arrived("b", num_prompt_tokens=90)) == []
    assert submitted(core.tell(ReplicaLimited(1.0, "p/0", 4, 1000))) == [("b", "p/0")]


def test_a_pool_that_lost_its_last_replica_serves_again_with_a_new_one() -> None:
    core = Driven(FCFS, 1)
    core.tell(arrived("a"))
    core.tell(ReplicaLost(1.0, "p/0"))
    assert core.tell(RequestFailed(1.0, "a", retryable=False)) == [GiveUp("a", 1, "lost")]
    assert core.tell(arrived("b", 2.0)) == [GiveUp("b", 0, "lost")]
    core.tell(ReplicaAdded(3.0, "p/1", "p", 1))
    assert submitted(core.tell(arrived("c", 4.0))) == [("c", "p/1")]
    assert core.tell(arrived("d", 5.0)) == []
    assert submitted(core.tell(RequestFinished(6.0, "c"))) == [("d", "p/1")]


def test_a_pool_to_which_no_replica_came_gives_up_what_waits_until_one_comes() -> None:
    core = Driven(FCFS)
    core.tell(PoolOpened(0.0, "p"))
    assert core.tell(arrived("a")) == []
    assert core.tell(PoolClosed(1.0, "p", is_lost=True)) == [GiveUp("a", 0, "lost")]
    assert core.tell(arrived("b", 2.0)) == [GiveUp("b", 0, "lost")]
    core.tell(ReplicaAdded(3.0, "p/0", "p", 1))
    assert submitted(core.tell(arrived("c", 4.0))) == [("c", "p/0")]
    core.tell(PoolClosed(5.0, "p", is_lost=True))
    assert core.tell(RequestFailed(6.0, "c", retryable=False)) == [GiveUp("c", 1, "lost")]


def test_requests_on_their_own_are_no_successors_of_each_other() -> None:
    core = Driven(PREFIX_GROUPED, 4)
    core.tell(arrived("a", prefix_key=(1, 2), has_successor=True))
    core.tell(RequestFinished(1.0, "a"))
    core.tell(arrived("b", 2.0, prefix_key=(1, 2), has_successor=True))
    (request,) = core.core.requests.values()
    assert (request.is_successor, request.num_inherited_blocks) == (False, 0)


def test_a_request_for_an_unknown_pool_is_given_up_with_those_of_its_moment_started() -> None:
    core = Driven(FCFS, 2)
    assert core.tell(arrived("a", more_follow=True)) == []
    actions = core.tell(arrived("b", pool="q"))
    assert actions == [GiveUp("b", 0, "unknown_pool"), Submit("a", "p/0", 1)]
    core.tell(PoolOpened(1.0, "q"))
    assert core.tell(arrived("c", 1.0, pool="q")) == []


def test_a_drained_step_of_one_flow_is_none_of_another() -> None:
    core = Driven(FCFS)
    core.tell(WorkerAdded(0.0, "w", 1, ("a",), (1.0,), (1.0,)))
    core.tell(StepDrained(0.0, "first", "answer"))
    core.tell(arrived("r", 1.0, pool="a", facts=CallFacts("second", "answer")))
    assert core.core._workers._views["a"].num_open_steps == 1
    core.tell(WorkerPlanned(2.0, "w", "second", ("answer", "check"), ("a", "a")))
    core.tell(StepDrained(3.0, "second", "answer"))
    assert core.core._workers._views["a"].num_open_steps == 0
    assert core.core._workers._steps["w"] == [("second/check", "a")]


@pytest.mark.parametrize("state", ["waiting", "delayed", "parked", "arriving"])
def test_a_closed_pool_gives_up_what_does_not_run(state: str) -> None:
    core = Driven(PREFIX_GROUPED, 2 if state == "parked" else 1)
    core.tell(arrived("a", prefix_key=(1,), max_attempts=3))
    if state == "delayed":
        core.tell(RequestFailed(0.5, "a", retryable=True))
    else:
        core.tell(arrived("b", 0.5, prefix_key=(1,), more_follow=state == "arriving"))
    given_up = "a" if state == "delayed" else "b"
    assert core.tell(PoolClosed(1.0, "p")) == [GiveUp(given_up, int(state == "delayed"), "closed")]
    assert core.tell(arrived("c", 2.0, prefix_key=(1,))) == [GiveUp("c", 0, "closed")]
    if state != "delayed":
        assert core.tell(RequestFailed(3.0, "a", retryable=True)) == [GiveUp("a", 1, "closed")]
    assert core.tell(ReplicaDraining(4.0, "p/0")) == [Unload("p/0")]
    core.tell(ReplicaRemoved(4.0, "p/0"))
    assert core.tell(arrived("d", 5.0)) == [GiveUp("d", 0, "unknown_pool")]
    assert core.core.num_unfinished == 0


@given(
    choices=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 99)), max_size=80),
    max_attempts=st.integers(1, 3),
)
def test_every_request_ends_while_replicas_come_and_go(choices: list[tuple[int, int]], max_attempts: int) -> None:
    core = Driven(PREFIX_GROUPED)
    core.tell(PoolOpened(0.0, "p"))
    running: dict[str, str] = {}
    replicas: dict[str, bool] = {}
    limits: dict[str, int] = {"last": 4}
    open_requests: set[str] = set()
    number = 0

    def tell(actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Submit():
                    assert replicas[action.replica_id], "it drains"
                    assert list(running.values()).count(action.replica_id) < limits[action.replica_id], "it is full"
                    running[action.request_id] = action.replica_id
                case GiveUp():
                    open_requests.remove(action.request_id)
                case Unload():
                    assert action.replica_id not in running.values()
                    del replicas[action.replica_id]
                    tell(core.tell(ReplicaRemoved(float(number), action.replica_id)))

    for what, pick in choices:
        number += 1
        now_s, serving = float(number), [name for name, serves in replicas.items() if serves]
        if what <= 2:
            open_requests.add(f"r{number}")
            key = (pick % 3, pick % 5)
            tell(
                core.tell(
                    arrived(f"r{number}", now_s, prefix_key=key, workflow_order=pick % 4, max_attempts=max_attempts)
                )
            )
        elif what == 3:
            replicas[f"p/{number}"], limits[f"p/{number}"] = True, 1 + pick % 3
            tell(core.tell(ReplicaAdded(now_s, f"p/{number}", "p", 1 + pick % 3, None, 100)))
        elif what == 4 and serving:
            replicas[serving[pick % len(serving)]] = False
            tell(core.tell(ReplicaDraining(now_s, serving[pick % len(serving)])))
        elif what == 8 and replicas:
            name = sorted(replicas)[pick % len(replicas)]
            limits[name] = pick % 4
            tell(core.tell(ReplicaLimited(now_s, name, limits[name])))
        elif running:
            request_id = sorted(running)[pick % len(running)]
            del running[request_id]
            if what == 5:
                tell(core.tell(RequestFailed(now_s, request_id, retryable=True)))
            else:
                open_requests.remove(request_id)
                tell(core.tell(RequestFinished(now_s, request_id)))
    replicas["last"] = True
    tell(core.tell(ReplicaAdded(number + 1.0, "last", "p", 4)))
    while open_requests:
        number += 1000
        tell(core.tell(TimerFired(float(number))))
        for request_id in list(running):
            del running[request_id]
            open_requests.remove(request_id)
            tell(core.tell(RequestFinished(float(number), request_id)))
    assert core.core.num_unfinished == 0
