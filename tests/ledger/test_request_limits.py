"""A scope has as many requests at once, and in any minute, as its limits say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sundog.ledger.ledger import SpendingScope
from sundog.ledger.request_limits import MINUTE_S, RequestGate, RequestLimits

KEY = SpendingScope("key", "k")


def test_a_request_that_ends_makes_room_for_one() -> None:
    gate, limits = RequestGate(), RequestLimits(max_at_once=2)
    assert gate.enter(KEY, limits, 0.0) is None
    assert gate.enter(KEY, limits, 0.0) is None
    refusal = gate.enter(KEY, limits, 1.0)
    assert refusal is not None
    assert refusal.retry_after_s > 0
    gate.leave(KEY, 2.0)
    assert gate.enter(KEY, limits, 2.0) is None


def test_a_refusal_says_when_the_minute_has_room() -> None:
    gate, limits = RequestGate(), RequestLimits(max_per_minute=2)
    for begin_s in (0.0, 10.0):
        assert gate.enter(KEY, limits, begin_s) is None
        gate.leave(KEY, begin_s)
    refusal = gate.enter(KEY, limits, 20.0)
    assert refusal is not None
    assert refusal.retry_after_s == 40.0
    assert str(refusal) == "max_per_minute of the key 'k' is 2, and so many there are"
    assert gate.enter(KEY, limits, 60.0) is None, "the first is a minute ago"
    assert gate.enter(KEY, limits, 60.0) is not None


def test_none_may_be_the_limit() -> None:
    refusal = RequestGate().enter(KEY, RequestLimits(max_per_minute=0), 0.0)
    assert refusal is not None
    assert refusal.retry_after_s == MINUTE_S


def test_scopes_do_not_see_each_other_and_leave_nothing() -> None:
    gate = RequestGate()
    for number in range(100):
        scope = SpendingScope("tenant", str(number))
        assert gate.enter(scope, RequestLimits(max_at_once=1), 0.0) is None
        gate.leave(scope, 1.0)
    assert len(gate) == 0


@given(st.lists(st.tuples(st.floats(0, 40), st.booleans()), max_size=60), st.integers(1, 5), st.integers(1, 3))
def test_no_minute_has_more_and_a_wait_that_was_told_is_enough(
    steps: list[tuple[float, bool]], per_minute: int, at_once: int
) -> None:
    gate, limits, now_s = RequestGate(), RequestLimits(at_once, per_minute), 0.0
    begins_s: list[float] = []
    num_running = 0
    for wait_s, is_end in steps:
        now_s += wait_s
        if is_end and num_running:
            gate.leave(KEY, now_s)
            num_running -= 1
            continue
        refusal = gate.enter(KEY, limits, now_s)
        if refusal is not None and refusal.limit == "max_per_minute":
            now_s += refusal.retry_after_s * (1 + 1e-9)
            refusal = gate.enter(KEY, limits, now_s)
            assert refusal is None
        if refusal is None:
            begins_s.append(now_s)
            num_running += 1
        assert num_running <= at_once
    for begin_s in begins_s:
        assert sum(begin_s <= other_s < begin_s + MINUTE_S - 1e-6 for other_s in begins_s) <= per_minute
