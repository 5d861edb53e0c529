"""Requests and replicas: who waits where, and who takes over what waits too long."""

from __future__ import annotations

from dataclasses import replace

from sundog.sched.catalog import LLUMNIX, PREFIX_GROUPED, ROUND_ROBIN
from sundog.sched.core import SchedulerCore
from sundog.sched.events import (
    Action,
    Event,
    GiveUp,
    ReplicaAdded,
    ReplicaDown,
    ReplicaLost,
    ReplicaReported,
    ReplicaUp,
    RequestArrived,
    RequestFailed,
    RequestFinished,
    StepsOrdered,
    Submit,
)
from sundog.sched.facts import CallFacts
from sundog.sched.policies.routing import freest_takes_over
from sundog.sched.policy import PolicySet

NUM_SLOTS = 4
"""So that a replica may have one request more than the emptiest."""


ALWAYS_ADMITTING = replace(PREFIX_GROUPED, admit=())


class Pool:
    """A core with replicas p/0, p/1 … for requests with prefixes; its books are checked after every event."""

    def __init__(self, num_replicas: int, policies: PolicySet = ALWAYS_ADMITTING) -> None:
        self.core = SchedulerCore(policies)
        for number in range(num_replicas):
            self.tell(ReplicaAdded(0.0, f"p/{number}", "p", NUM_SLOTS, None, 1000))

    def tell(self, event: Event) -> list[tuple[str, str]]:
        actions: list[Action] = self.core.handle(event)
        self.core.check()
        return [(action.request_id, action.replica_id) for action in actions if isinstance(action, Submit)]

    def arrive(self, name: str, *prefix: int, step: str = "") -> list[tuple[str, str]]:
        return self.tell(RequestArrived(0.0, name, "p", prefix_key=prefix, facts=CallFacts("f", step)))

    def finish(self, name: str) -> list[tuple[str, str]]:
        return self.tell(RequestFinished(1.0, name))


def full() -> Pool:
    """Two replicas: a0 to a3 with prefix 1 on the first, b0 to b3 with prefix 2 on the second."""
    pool = Pool(2)
    for number in range(NUM_SLOTS):
        assert pool.arrive(f"a{number}", 1) == [(f"a{number}", "p/0")]
        assert pool.arrive(f"b{number}", 2) == [(f"b{number}", "p/1")]
    return pool


def test_a_prefix_that_is_being_computed_counts() -> None:
    pool = Pool(2)
    assert pool.arrive("a", 1, 2) == [("a", "p/0")]
    assert pool.arrive("b", 3, 4) == [("b", "p/1")]
    assert pool.arrive("c", 1, 2, 5) == [("c", "p/0")]


def test_a_request_waits_for_the_replica_that_has_its_prefix() -> None:
    pool = full()
    assert pool.arrive("a4", 1) == []
    assert pool.finish("b0") == [], "its place is at p/0"
    assert pool.finish("a0") == [("a4", "p/0")]


def test_what_ranks_first_does_not_wait_behind_what_came_to_the_replica_before() -> None:
    pool = full()
    assert pool.arrive("a4", 1, 9) == []
    assert pool.finish("b0") == []
    assert pool.arrive("begun", 1, 5) == [("begun", "p/1")], "p/0 has too many"
    assert pool.finish("a0") == [("a4", "p/0")]


def test_no_replica_has_many_more_than_another() -> None:
    pool = full()
    assert pool.arrive("a4", 1) == []
    assert pool.arrive("a5", 1) == []
    assert pool.finish("b0") == [("a5", "p/1")]


def test_an_idle_replica_takes_over_what_waits_elsewhere() -> None:
    pool = full()
    assert pool.arrive("a4", 1) == []
    assert pool.finish("b0") == []
    assert pool.finish("b1") == [("a4", "p/1")], "p/0 has three more"


def test_what_waits_at_a_replica_that_goes_down_runs_elsewhere() -> None:
    pool = full()
    assert pool.arrive("a4", 1) == []
    assert pool.finish("b0") == []
    assert pool.tell(ReplicaDown(2.0, "p/0")) == [("a4", "p/1")]
    assert pool.arrive("c", 3) == []
    assert pool.finish("a0") == [], "it takes nothing while it is down"
    assert pool.tell(ReplicaUp(3.0, "p/0")) == [("c", "p/0")]


def test_a_pool_that_has_lost_every_replica_gives_up_what_waits_and_what_comes() -> None:
    pool = Pool(2)
    pool.tell(ReplicaLost(0.0, "p/0"))
    assert pool.arrive("a") == [("a", "p/1")]
    for number in range(NUM_SLOTS):
        pool.arrive(f"b{number}")
    assert pool.core.handle(ReplicaLost(1.0, "p/1")) == [GiveUp("b3", 0, "lost")]
    assert pool.core.handle(RequestArrived(2.0, "c", "p")) == [GiveUp("c", 0, "lost")]
    assert pool.core.handle(RequestFailed(3.0, "a", retryable=True)) == [GiveUp("a", 1, "lost")]
    pool.core.check()


def test_requests_of_other_clients_count() -> None:
    pool = Pool(2)
    pool.tell(ReplicaReported(0.0, "p/0", num_server_running=3, num_server_waiting=1, kv_usage=0.5, num_preemptions=0))
    assert pool.arrive("a") == [("a", "p/1")]
    assert pool.arrive("b") == [("b", "p/1")]


def test_an_order_of_steps_ranks_what_waits_anew() -> None:
    """It holds in the pool and at a replica; an order without steps ends it."""
    pool = full()
    for name, step in (("late", "check"), ("early", "draft")):
        assert pool.arrive(name, 1, 5, step=step) == []
    assert pool.core.handle(StepsOrdered(0.0, "f", ("draft", "check"), (0, 1))) == []
    assert pool.finish("a0") == [("early", "p/0")]
    pool.arrive("early_too", 1, 6, step="draft")
    assert pool.core.handle(StepsOrdered(0.0, "f", (), ())) == []
    assert pool.finish("a1") == [("late", "p/0")]


def test_orders_of_flows_stand_side_by_side() -> None:
    pool = full()
    for step in ("check", "draft"):
        pool.arrive(step, 1, step=step)
    pool.tell(StepsOrdered(0.0, "f", ("draft", "check"), (0, 1)))
    pool.tell(StepsOrdered(0.0, "g", ("check", "draft"), (0, 1)))
    assert pool.finish("a0") == [("draft", "p/0")]


def test_what_was_sent_to_a_replica_in_turn_waits_there() -> None:
    """Twelve requests, of which six go to each of two replicas with four slots."""
    pool = Pool(2, ROUND_ROBIN)
    for number in range(12):
        pool.arrive(f"r{number}")
    assert [pool.finish(name) for name in ("r1", "r3")] == [[("r9", "p/1")], [("r11", "p/1")]]
    assert [pool.finish(name) for name in ("r5", "r7", "r9", "r11")] == [[]] * 4, "it idles, and r8 and r10 wait"
    assert pool.finish("r0") == [("r8", "p/0")]


def test_rescheduling_moves_what_waits_to_the_freest() -> None:
    """As before: as soon as nothing waits at the second replica, it takes over what waits at the first."""
    pool = Pool(2, replace(ROUND_ROBIN, reschedule=freest_takes_over))
    for number in range(12):
        pool.arrive(f"r{number}")
    assert pool.finish("r1") == [("r9", "p/1")]
    assert pool.finish("r3") == [("r11", "p/1")]
    assert pool.finish("r5") == [("r10", "p/1")], "the one that would have waited longest"
    assert pool.finish("r7") == [("r8", "p/1")]
    assert pool.finish("r9") == []


def test_llumnix_sends_to_the_least_load() -> None:
    pool = Pool(2, LLUMNIX)
    assert [pool.arrive(f"r{number}") for number in range(2)] == [[("r0", "p/0")], [("r1", "p/1")]]
    pool.finish("r1")
    assert pool.arrive("r2") == [("r2", "p/1")]
    pool.tell(ReplicaDown(1.0, "p/1"))
    assert pool.arrive("r3") == [("r3", "p/0")]
    pool.tell(ReplicaDown(1.0, "p/0"))
    assert pool.arrive("r4") == [], "nobody serves, so it waits for whoever comes back"
    assert pool.tell(ReplicaUp(2.0, "p/0")) == [("r4", "p/0")]
