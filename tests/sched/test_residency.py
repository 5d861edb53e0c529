"""The residency policies as tables: one worker, two or three engines, one moment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sundog.sched.policies.residency import SETTLE_S, follow_plan, oldest_call_first
from sundog.sched.policy import Bring, Keep
from sundog.sched.views import PoolView, ReplicaView, SchedView, WorkerView

NOW_S = 100.0
LOAD_S = 10.0


def pool(name: str, **facts: Any) -> PoolView:
    """An engine whose calls take a second, that nobody has and nothing waits for."""
    lull_since_s = None if facts.get("num_waiting") else facts.pop("lull_since_s", NOW_S)
    return PoolView(name, LOAD_S, 1.0, lull_since_s=lull_since_s, **facts)


def resident(name: str, num_running: int = 0, idle_since_s: float | None = None) -> ReplicaView:
    return ReplicaView(f"{name}/w", name, 8, num_running=num_running, idle_since_s=idle_since_s, worker_id="w")


def worker(*residents: ReplicaView, planned: str = "", room: int = 1, **facts: Any) -> WorkerView:
    here = {one.pool: one for one in residents}
    return WorkerView("w", ("a", "b", "c"), room, here, tuple(planned), **facts)


def pools(*known: PoolView) -> dict[str, PoolView]:
    return {**{name: pool(name) for name in "abc"}, **{one.pool: one for one in known}}


BUSY = SchedView(NOW_S)
QUIET = SchedView(NOW_S, quiet_since_s=NOW_S - 1)
IN_TURNS = SchedView(NOW_S, step_places={"f/a": 0})
IDLE_A = resident("a", idle_since_s=NOW_S - 1)


@pytest.mark.parametrize(
    ("why", "given_worker", "given_pools", "sched", "answer"),
    [
        ("preload: the plan's first engine, before any call", worker(planned="ba"), pools(), BUSY, Bring("b")),
        ("no plan and no calls", worker(), pools(), BUSY, Keep()),
        ("no plan: what is asked for", worker(), pools(pool("c", num_waiting=1)), BUSY, Bring("c")),
        (
            "no plan: where most work waits",
            worker(),
            pools(pool("b", num_waiting=2), pool("c", num_waiting=3)),
            BUSY,
            Bring("c"),
        ),
        ("another replica brings it", worker(), pools(pool("c", num_waiting=1, num_serving=1)), BUSY, Keep()),
        (
            "a second replica is worth its load",
            worker(),
            pools(pool("c", num_waiting=21, num_serving=1)),
            BUSY,
            Bring("c"),
        ),
        (
            "room for two: the second of the plan beside the first that works",
            worker(resident("a", 3), planned="abc", room=2),
            pools(),
            BUSY,
            Bring("b"),
        ),
        (
            "the plan has the resident next: it stays though nothing asks for it",
            worker(IDLE_A, planned="ab"),
            pools(),
            BUSY,
            Keep(),
        ),
        (
            "its step has drained: preload the next one at once",
            worker(IDLE_A, planned="ba"),
            pools(),
            BUSY,
            Bring("b", instead_of="a"),
        ),
        (
            "lock: calls for the resident wait, however many wait elsewhere",
            worker(resident("a", 8), planned="b"),
            pools(pool("a", num_waiting=1), pool("b", num_waiting=900)),
            QUIET,
            Keep(),
        ),
        (
            "lock: calls for the resident run",
            worker(resident("a", 1), planned="b"),
            pools(pool("b", num_waiting=1)),
            BUSY,
            Keep(),
        ),
        (
            "its open step may send calls: no preload that risks a switch back",
            worker(IDLE_A, planned="ba"),
            pools(pool("a", num_open_steps=1)),
            BUSY,
            Keep(),
        ),
        (
            "it is all that the plan has left for this worker, and others have what is asked for: it stays",
            worker(IDLE_A, planned="a"),
            pools(
                pool("a", num_open_steps=1, lull_since_s=0.0, last_arrival_s=NOW_S - 0.5),
                pool("b", num_waiting=90, num_serving=1),
            ),
            BUSY,
            Keep(until_s=NOW_S - 0.5 + 2 * LOAD_S),
        ),
        (
            "the same, before the first call for it: for as long as it takes",
            worker(resident("a", idle_since_s=0.0), planned="a"),
            pools(pool("b", num_waiting=90, num_serving=1)),
            BUSY,
            Keep(),
        ),
        (
            "the plan has done with it here, others have it too: go though calls for it wait",
            worker(resident("a", 8), planned="b"),
            pools(pool("a", num_waiting=9, num_serving=2)),
            BUSY,
            Bring("b", instead_of="a"),
        ),
        (
            "others will have their turn at it, as no plan says that is kept: stay",
            worker(resident("a", 8), planned="b"),
            pools(pool("a", num_waiting=9, num_serving=1, num_planned=1)),
            BUSY,
            Keep(),
        ),
        (
            "others will have their turn at it: go",
            worker(resident("a", 8), planned="b"),
            pools(pool("a", num_waiting=9, num_serving=1, num_planned=1)),
            IN_TURNS,
            Bring("b", instead_of="a"),
        ),
        (
            "its turn has come, and no call yet: it stays, though nobody has what is asked for",
            worker(resident("a", idle_since_s=0.0), planned="ab"),
            pools(pool("b", num_waiting=90)),
            IN_TURNS,
            Keep(),
        ),
        (
            "its turn, and calls come now and then: it stays for as long as two switches take",
            worker(IDLE_A, planned="ab"),
            pools(pool("a", num_open_steps=1, last_arrival_s=NOW_S - 2), pool("b", num_waiting=90)),
            IN_TURNS,
            Keep(until_s=NOW_S - 1 + 2 * LOAD_S),
        ),
        (
            "its turn, and nothing runs that could send a call",
            worker(IDLE_A, planned="ab"),
            pools(pool("b", num_waiting=1)),
            replace(QUIET, step_places={"f/a": 0}),
            Bring("b", instead_of="a"),
        ),
        (
            "the same: calls that trickle in are no reason to drain it",
            worker(resident("a", 1), planned="a"),
            pools(pool("a", num_open_steps=1, lull_since_s=0.0), pool("b", num_waiting=90, num_serving=1)),
            BUSY,
            Keep(),
        ),
        (
            "few calls wait elsewhere: idle for as long as two switches take",
            worker(IDLE_A, planned="a"),
            pools(pool("a", num_open_steps=1, lull_since_s=NOW_S - 1), pool("b", num_waiting=1)),
            BUSY,
            Keep(until_s=NOW_S - 1 + 2 * LOAD_S),
        ),
        (
            "and then give in",
            worker(resident("a", idle_since_s=NOW_S - 2 * LOAD_S), planned="a"),
            pools(pool("a", num_open_steps=1, lull_since_s=0.0), pool("b", num_waiting=1)),
            BUSY,
            Bring("b", instead_of="a"),
        ),
        (
            "calls worth two switches wait elsewhere: go at once",
            worker(IDLE_A, planned="a"),
            pools(pool("a", num_open_steps=1), pool("b", num_waiting=20)),
            BUSY,
            Bring("b", instead_of="a"),
        ),
        (
            "but not between a call and its successor",
            worker(resident("a", idle_since_s=NOW_S), planned="a"),
            pools(pool("a", num_open_steps=1), pool("b", num_waiting=20)),
            BUSY,
            Keep(until_s=NOW_S + SETTLE_S),
        ),
        (
            "nothing runs that could send a call",
            worker(IDLE_A, planned="a"),
            pools(pool("a", num_open_steps=1), pool("b", num_waiting=1)),
            QUIET,
            Bring("b", instead_of="a"),
        ),
        (
            "a trickle: drain when enough waits elsewhere for long enough",
            worker(resident("a", 1), planned="a"),
            pools(pool("a", num_open_steps=1, lull_since_s=NOW_S - 2 * LOAD_S), pool("b", num_waiting=20)),
            BUSY,
            Bring("b", instead_of="a"),
        ),
        (
            "a trickle: not for a few calls",
            worker(resident("a", 1), planned="a"),
            pools(pool("a", num_open_steps=1, lull_since_s=0.0), pool("b", num_waiting=19)),
            BUSY,
            Keep(),
        ),
        (
            "of two that could go, the one that the plan needs last",
            worker(resident("b", idle_since_s=0.0), resident("a", idle_since_s=0.0), planned="cba", room=2),
            pools(),
            BUSY,
            Bring("c", instead_of="a"),
        ),
        (
            "a load that failed is not tried before its time",
            worker(planned="b", not_before_s={"b": NOW_S + 1}),
            pools(pool("b", num_waiting=1)),
            QUIET,
            Keep(),
        ),
    ],
)
def test_follow_plan(
    why: str, given_worker: WorkerView, given_pools: dict[str, PoolView], sched: SchedView, answer: Keep | Bring
) -> None:
    assert follow_plan(given_worker, given_pools, sched) == answer, why


@pytest.mark.parametrize(
    ("why", "given_worker", "given_pools", "answer"),
    [
        ("nothing waits", worker(planned="b"), pools(), Keep()),
        (
            "the oldest call's engine, not the plan's",
            worker(planned="b"),
            pools(pool("a", num_waiting=1, oldest_arrival_s=5.0), pool("b", num_waiting=9, oldest_arrival_s=6.0)),
            Bring("a"),
        ),
        (
            "an older call waits elsewhere",
            worker(resident("a", 8)),
            pools(pool("a", num_waiting=9, oldest_arrival_s=6.0), pool("b", num_waiting=1, oldest_arrival_s=5.0)),
            Bring("b", instead_of="a"),
        ),
        (
            "the oldest call is for the resident",
            worker(resident("a", 8)),
            pools(pool("a", num_waiting=1, oldest_arrival_s=5.0), pool("b", num_waiting=9, oldest_arrival_s=6.0)),
            Keep(),
        ),
    ],
)
def test_oldest_call_first(
    why: str, given_worker: WorkerView, given_pools: dict[str, PoolView], answer: Keep | Bring
) -> None:
    assert oldest_call_first(given_worker, given_pools, BUSY) == answer, why
