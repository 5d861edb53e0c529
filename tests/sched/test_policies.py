"""Policies as tables: views in, decision out."""

from __future__ import annotations

import pytest

from sundog.sched.books.prefix_index import PrefixIndex, PrefixOrder
from sundog.sched.policies.admission import conservative, one_warms_the_prefix, promised_slots_are_kept
from sundog.sched.policies.order import first_come, shared_prefix_adjacent
from sundog.sched.policies.retry import exponential_backoff
from sundog.sched.policies.routing import least_outstanding, not_where_it_failed, prefix_affinity, within_load_bound
from sundog.sched.policy import Admitted, Deferred
from sundog.sched.views import ReplicaView, RequestView, SchedView

NOW = SchedView()


def make_request(**changes: object) -> RequestView:
    request = RequestView("r", "pool")
    for name, value in changes.items():
        setattr(request, name, value)
    return request


def make_replica(**changes: object) -> ReplicaView:
    replica = ReplicaView("p/0", "pool", max_concurrency=4, prefixes=PrefixIndex(100))
    for name, value in changes.items():
        setattr(replica, name, value)
    return replica


@pytest.mark.parametrize(
    ("limit", "running", "in_flight", "needs", "key", "expected"),
    [
        (None, 3, 10_000, 500, (), Admitted()),
        (1000, 1, 500, 500, (), Admitted()),
        (1000, 1, 501, 500, (), Deferred()),
        (1000, 0, 0, 5000, (), Admitted()),
        (1000, 1, 501, 500, (1, 2, 3), Admitted()),  # three quarters of its 400 prompt tokens are there already
        (1000, 1, 801, 500, (1, 2, 3), Deferred()),
    ],
)
def test_token_budget(
    limit: int | None, running: int, in_flight: int, needs: int, key: tuple[int, ...], expected: object
) -> None:
    replica = make_replica(max_tokens_in_flight=limit, num_running=running)
    replica.running.hold("other", (1, 2, 3), in_flight, 0)
    request = make_request(num_prompt_tokens=needs - 100, num_expected_output_tokens=100, prefix_key=key)
    assert conservative(request, replica, NOW) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ((1, 2, 3), Deferred(until="other")),  # the whole prefix is being computed
        ((1, 2, 9), Deferred(until="other")),  # part of it is
        ((7, 8), Admitted()),  # nothing shared
        ((), Admitted()),  # too short to have a block
    ],
)
def test_one_warms_the_prefix(key: tuple[int, ...], expected: object) -> None:
    replica = make_replica()
    replica.prefixes.begin((1, 2, 3), "other")
    assert one_warms_the_prefix(make_request(prefix_key=key), replica, NOW) == expected


def test_nobody_waits_where_cold_prefixes_are_shared() -> None:
    replica = make_replica(shares_cold_prefixes=True)
    replica.prefixes.begin((1, 2, 3), "other")
    assert one_warms_the_prefix(make_request(prefix_key=(1, 2, 3)), replica, NOW) == Admitted()


def test_a_warm_prefix_is_not_waited_for() -> None:
    replica = make_replica()
    replica.prefixes.begin((1, 2, 3), "other")
    replica.prefixes.end((1, 2, 3), "other", is_warm=True)
    assert one_warms_the_prefix(make_request(prefix_key=(1, 2, 4)), replica, NOW) == Admitted()
    assert replica.prefixes.num_known_blocks((1, 2, 4)) == 2


def test_those_that_wait_at_a_replica_are_outstanding_there() -> None:
    assert least_outstanding(make_request(), make_replica(), NOW) == 1.0
    assert least_outstanding(make_request(), make_replica(num_running=1, num_waiting=2, num_parked=1), NOW) == 0.5
    assert least_outstanding(make_request(), make_replica(num_running=3, num_parked=5), NOW) == 1 / 3


@pytest.mark.parametrize(
    ("running", "waiting", "least", "expected"), [(4, 1, 1.0, True), (4, 2, 1.0, False), (1, 0, 0.0, True)]
)
def test_no_replica_has_many_more_requests_than_the_emptiest(
    running: int, waiting: int, least: float, expected: bool
) -> None:
    replica = make_replica(num_running=running, num_waiting=waiting)
    assert within_load_bound(make_request(), replica, SchedView(least_load=least)) is expected


def test_prefix_index_forgets_the_oldest() -> None:
    index = PrefixIndex(3)
    index.begin((1, 2), "a")
    index.end((1, 2), "a", is_warm=True)
    index.begin((3, 4), "b")
    assert index.num_known_blocks((1,)) == 0
    assert index.num_known_blocks((2,)) == 1


def test_failed_prefill_leaves_nothing_warm() -> None:
    index = PrefixIndex(10)
    index.begin((1, 2), "a")
    index.end((1, 2), "a", is_warm=False)
    assert index.num_known_blocks((1, 2)) == 0
    assert index.computing((1, 2)) is None


def test_prefixes_are_met_depth_first_and_rows_in_order() -> None:
    requests = [
        make_request(request_id="other group", prefix_order=(5,), workflow_order=0),
        make_request(request_id="child", prefix_order=(1, 2, 3), workflow_order=0),
        make_request(request_id="late row", prefix_order=(1, 2), workflow_order=7),
        make_request(request_id="parent", prefix_order=(1, 2), workflow_order=0),
        make_request(request_id="sibling", prefix_order=(1, 4), workflow_order=0),
        make_request(
            request_id="begun", prefix_order=(9, 8), prefix_key=(9, 8), workflow_order=8, num_inherited_blocks=1
        ),
    ]
    ranked = sorted(requests, key=lambda request: shared_prefix_adjacent(request, NOW))
    assert [request.request_id for request in ranked] == [
        *("begun", "parent", "late row", "child", "sibling", "other group")
    ]


def test_prefixes_are_numbered_as_they_come_and_forgotten_in_that_order() -> None:
    order = PrefixOrder(3)
    assert order.numbers((77, 5)) == (0, 1)
    assert order.numbers((77, 3)) == (0, 2)
    assert order.numbers((8,)) == (3,)
    assert order.numbers((77,)) == (4,), "the oldest was forgotten"


def test_with_room_for_all_the_longest_chains_go_first() -> None:
    """Not where other engines wait for what those that have begun will ask."""
    requests = [
        make_request(request_id="begun", prefix_order=(1,), prefix_key=(1,), depth=1, num_inherited_blocks=1),
        make_request(request_id="new", prefix_order=(9,), depth=0),
    ]
    for num_cache_blocks, num_devices, expected in (
        (20, 1, ["new", "begun"]),
        (19, 1, ["begun", "new"]),
        (20, 2, ["begun", "new"]),
    ):
        sched = SchedView(num_seen_blocks=10, num_cache_blocks=num_cache_blocks, num_devices=num_devices)
        ranked = sorted(requests, key=lambda request: shared_prefix_adjacent(request, sched))
        assert [request.request_id for request in ranked] == expected


@pytest.mark.parametrize(
    ("max_blocks", "running", "parked", "open_rows", "is_successor", "expected"),
    [
        (47, 2, 1, 0, False, Admitted()),
        (47, 2, 1, 1, False, Deferred()),
        (47, 1, 3, 0, False, Deferred()),
        (47, 2, 1, 1, True, Admitted()),  # it is what the slot was promised to
        (48, 2, 1, 1, False, Admitted()),  # the cache holds four prompts for each of four slots
        (47, 0, 9, 9, False, Admitted()),  # or nothing would move
    ],
)
def test_promised_slots_are_kept(
    max_blocks: int, running: int, parked: int, open_rows: int, is_successor: bool, expected: object
) -> None:
    replica = make_replica(num_running=running, num_parked=parked, num_open_workflows=open_rows)
    replica.prefixes = PrefixIndex(max_blocks)
    request = make_request(is_successor=is_successor, prefix_key=(7, 8, 9))
    assert promised_slots_are_kept(request, replica, NOW) == expected
    roomy = SchedView(num_seen_blocks=10, num_cache_blocks=20)
    assert promised_slots_are_kept(request, replica, roomy) == Admitted()


def test_tools_run_as_the_plan_needs_them_then_by_row() -> None:
    late = make_request(request_id="late", need_s=9.0, workflow_order=0)
    soon = make_request(request_id="soon", need_s=1.0, workflow_order=5)
    next_row = make_request(request_id="next row", need_s=1.0, workflow_order=6)
    ranked = sorted([late, next_row, soon], key=lambda request: shared_prefix_adjacent(request, NOW))
    assert [request.request_id for request in ranked] == ["soon", "next row", "late"]


def test_first_come() -> None:
    early, late = make_request(arrival_time=1.0), make_request(arrival_time=2.0)
    assert first_come(early, NOW) < first_come(late, NOW)


def test_scores_lie_in_the_unit_interval() -> None:
    request = make_request(prefix_key=(1, 2), failed_replicas=("p/0",))
    replica = make_replica(num_running=1)
    replica.prefixes.begin((1,), "a")
    replica.prefixes.end((1,), "a", is_warm=True)
    assert least_outstanding(request, replica, NOW) == 0.8
    assert prefix_affinity(request, replica, NOW) == 0.5
    assert prefix_affinity(make_request(prefix_key=(1, 2, 3)), replica, NOW) == 0.0, "less than half is not worth it"
    assert not_where_it_failed(request, replica, NOW) == 0.0
    assert not_where_it_failed(make_request(), replica, NOW) == 1.0


@pytest.mark.parametrize(("attempts", "low_s", "high_s"), [(1, 0.25, 0.5), (2, 0.5, 1.0), (20, 15.0, 30.0)])
def test_backoff_grows_up_to_its_bound(attempts: int, low_s: float, high_s: float) -> None:
    delays = {exponential_backoff(make_request(request_id=str(i), num_attempts=attempts), None, NOW) for i in range(50)}
    assert all(low_s <= delay_s <= high_s for delay_s in delays)
    assert len(delays) == 50, "each request has its own jitter"


def test_backoff_obeys_the_server() -> None:
    assert exponential_backoff(make_request(num_attempts=1), 7.0, NOW) == 7.0
