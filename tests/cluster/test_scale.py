"""The number of engines: what the work asks for, the bounds, the tail, and machines that are taken away."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.cluster.scale import (
    DrainEngine,
    EngineGone,
    EngineIdled,
    EngineNoticed,
    EngineStarted,
    EngineUsed,
    ScaleAction,
    ScaleBook,
    ScaleBounds,
    ScaleEvent,
    SetTarget,
    WorkEstimated,
    engine_target,
)

BOUNDS = ScaleBounds(min_engines=2, max_engines=1_000, finish_s=100.0, num_slots=64)


@pytest.mark.parametrize(
    ("event", "target"),
    [
        (WorkEstimated(0.0, 50_000.0, 1_000_000), 500),
        (WorkEstimated(50.0, 50_000.0, 1_000_000), 1_000),
        (WorkEstimated(0.0, 50_000_000.0, 1_000_000), 1_000),
        (WorkEstimated(0.0, 10.0, 1_000_000), 2),
        (WorkEstimated(0.0, 50_000.0, 640), 10),
        (WorkEstimated(101.0, 10.0, 1_000_000), 1_000),
        (WorkEstimated(101.0, 10.0, 65), 2),
        (WorkEstimated(50.0, 0.0, 0), 0),
    ],
)
def test_the_target_is_the_work_over_the_time_that_is_left(event: WorkEstimated, target: int) -> None:
    assert engine_target(BOUNDS, event) == target


class Engines:
    """A book, and the engines that serve and do not drain."""

    def __init__(self, bounds: ScaleBounds) -> None:
        self._book = ScaleBook(bounds)
        self._known: set[str] = set()
        self.serving: list[str] = []

    def handle(self, event: ScaleEvent) -> list[ScaleAction]:
        actions = self._book.handle(event)
        if isinstance(event, EngineStarted) and event.engine not in self._known:
            self.serving.append(event.engine)
        if isinstance(event, EngineStarted | EngineGone):
            self._known.add(event.engine)
        left = [event.engine] if isinstance(event, EngineGone) else []
        left += [action.engine for action in actions if isinstance(action, DrainEngine)]
        self.serving = [engine for engine in self.serving if engine not in left]
        return actions


def book_of(num_engines: int, target: WorkEstimated) -> Engines:
    book = Engines(BOUNDS)
    book.handle(target)
    for number in range(num_engines):
        book.handle(EngineStarted(f"e{number}"))
    return book


def test_a_target_is_told_when_it_changes() -> None:
    book = ScaleBook(BOUNDS)
    assert book.handle(WorkEstimated(0.0, 300.0, 10_000)) == [SetTarget(3)]
    assert book.handle(WorkEstimated(1.0, 297.0, 10_000)) == []


def test_only_idle_engines_are_given_back_at_the_tail() -> None:
    book = book_of(4, WorkEstimated(0.0, 400.0, 10_000))
    assert book.handle(WorkEstimated(50.0, 10.0, 100)) == [SetTarget(2)]
    assert book.handle(EngineIdled("e1")) == [DrainEngine("e1")]
    assert book.handle(EngineIdled("e3")) == [DrainEngine("e3")]
    assert book.handle(EngineIdled("e0")) == [], "two are wanted"
    assert book.serving == ["e0", "e2"]


def test_the_youngest_idle_engine_goes_first() -> None:
    book = book_of(4, WorkEstimated(0.0, 400.0, 10_000))
    book.handle(EngineIdled("e1"))
    book.handle(EngineIdled("e3"))
    assert book.handle(WorkEstimated(50.0, 150.0, 10_000)) == [SetTarget(3), DrainEngine("e3")]


def test_an_engine_that_is_used_again_stays() -> None:
    book = book_of(3, WorkEstimated(0.0, 300.0, 10_000))
    book.handle(EngineIdled("e2"))
    book.handle(EngineUsed("e2"))
    assert book.handle(WorkEstimated(50.0, 100.0, 10_000)) == [SetTarget(2)]
    assert book.handle(EngineIdled("e0")) == [DrainEngine("e0")]


def test_an_engine_whose_machine_goes_is_drained_and_replaced() -> None:
    book = book_of(3, WorkEstimated(0.0, 300.0, 10_000))
    assert book.handle(EngineNoticed("e1")) == [DrainEngine("e1"), SetTarget(3)]
    assert book.handle(EngineNoticed("e1")) == []
    assert book.handle(EngineGone("e1")) == []
    assert book.handle(EngineStarted("e1")) == [], "a late word of one that has gone"
    assert book.handle(EngineGone("e2")) == [SetTarget(3)]
    assert book.serving == ["e0"]


NAMES = st.sampled_from([f"e{number}" for number in range(6)])
EVENTS = st.one_of(
    st.builds(WorkEstimated, st.floats(0, 200), st.floats(0, 1_000), st.integers(0, 1_000)),
    *(st.builds(kind, NAMES) for kind in (EngineStarted, EngineIdled, EngineUsed, EngineNoticed, EngineGone)),
)


@given(st.lists(EVENTS, max_size=60))
def test_whatever_happens_an_engine_is_drained_once_and_never_below_the_target(events: list[ScaleEvent]) -> None:
    bounds = ScaleBounds(min_engines=1, max_engines=4, finish_s=100.0, num_slots=8)
    book = Engines(bounds)
    target, drained = 0, set()
    for event in events:
        before = book.serving
        actions = book.handle(event)
        for action in actions:
            if isinstance(action, SetTarget):
                target = action.num_engines
                assert 0 <= target <= 4
            else:
                assert action.engine in before
                assert action.engine not in drained
                drained.add(action.engine)
        if drained & set(before) and not isinstance(event, EngineNoticed):
            assert len(book.serving) >= target
        assert not drained & set(book.serving)


@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_engines_end_their_work_in_time_and_go_at_the_tail(seed: int) -> None:
    """Engines take a minute to come, one machine in 2,000 is taken away each second, and the estimate of the work,
    20 calls for each second of an engine, is 10 % too low."""
    random = Random(seed)
    bounds = ScaleBounds(min_engines=10, max_engines=1_000, finish_s=3_600.0, num_slots=64)
    book = Engines(bounds)
    left, second, asked, num_started, num_drained = 2_000_000.0, 0, 0, 0, 0
    coming: list[tuple[int, str]] = []
    most = 0
    while left > 0:
        second += 1
        events: list[ScaleEvent] = [WorkEstimated(float(second), 0.9 * left, int(20 * left) + 1)]
        events += [EngineStarted(name) for due, name in coming if due <= second]
        coming = [one for one in coming if one[0] > second]
        events += [EngineNoticed(name) for name in book.serving if random.random() < 0.0005]
        busy = min(len(book.serving), int(20 * left) // 64 + 1)
        events += [EngineIdled(name) for name in book.serving[busy:]]
        for event in events:
            for action in book.handle(event):
                if isinstance(action, SetTarget):
                    asked = action.num_engines
                else:
                    num_drained += 1
        for _ in range(asked - len(book.serving) - len(coming)):
            num_started += 1
            coming.append((second + 60, f"e{num_started}"))
        left -= busy
        most = max(most, len(book.serving))
        assert len(book.serving) + len(coming) <= 1_000
    assert second <= 3_600 * 1.05
    assert most < 1_000
    assert len(book.serving) <= 10
    assert num_drained >= most - 10
