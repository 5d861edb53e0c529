"""The lease book: single events, any order of faults, and a large cluster."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sundog.cluster.lease_events import (
    BucketAdded,
    CellAsked,
    CellBeat,
    CellGone,
    CellJoined,
    ConfirmEnd,
    DropPart,
    LeaseEnded,
    LeasePart,
    LeaseTimePassed,
    LeaseVoid,
    PartKey,
    PartSplit,
    SplitPart,
    StopCell,
)
from sundog.cluster.leases import LeaseBook
from tests.cluster.lease_world import World

A, B = PartKey(0, 0), PartKey(1, 0)


def book_of(*sizes: int, cells: str = "xy") -> LeaseBook:
    book = LeaseBook()
    for bucket, size in enumerate(sizes):
        book.handle(BucketAdded(0.0, PartKey(bucket, 0), size))
    for cell in cells:
        book.handle(CellJoined(0.0, cell))
    return book


def test_the_largest_bucket_is_leased_first() -> None:
    book = book_of(10, 30)
    assert book.handle(CellAsked(1.0, "x", 1)) == [LeasePart("x", 1, B, 30, 1)]
    assert book.handle(CellAsked(1.0, "y", 1)) == [LeasePart("y", 1, A, 10, 1)]


def test_a_question_that_is_repeated_has_the_same_answer() -> None:
    book = book_of(10, 30)
    first = book.handle(CellAsked(1.0, "x", 1))
    assert book.handle(CellAsked(2.0, "x", 1)) == first
    assert book.handle(CellAsked(2.0, "x", 2)) == [LeasePart("x", 2, A, 10, 1)]
    assert book.handle(CellAsked(2.0, "x", 1)) == first


def test_a_silent_cell_is_dead_and_its_bucket_gets_a_higher_epoch() -> None:
    book = book_of(10)
    book.handle(CellAsked(1.0, "x", 1))
    book.handle(CellAsked(1.0, "y", 1))
    assert book.handle(CellBeat(5.5, "y")) == []
    assert book.handle(LeaseTimePassed(6.0)) == [StopCell("x"), LeasePart("y", 1, A, 10, 2)]
    assert book.handle(LeaseEnded(6.5, "x", A, 1, 10)) == [StopCell("x")]
    assert book.num_open_parts == 1
    assert book.handle(LeaseEnded(6.5, "y", A, 2, 10)) == [ConfirmEnd("y", A, 2)]
    assert book.num_open_parts == 0


def test_a_cell_that_has_ended_is_not_waited_for() -> None:
    book = book_of(10)
    book.handle(CellAsked(1.0, "x", 1))
    book.handle(CellAsked(1.0, "y", 1))
    assert LeasePart("y", 1, A, 10, 2) in book.handle(CellGone(1.1, "x"))


def test_a_lease_that_a_beat_does_not_tell_of_is_told_again() -> None:
    book = book_of(10)
    lease = book.handle(CellAsked(1.0, "x", 1))
    assert book.handle(CellBeat(2.0, "x")) == lease
    assert book.handle(CellBeat(3.0, "x", ((A, 1, 0),))) == []


def test_a_bucket_ends_once() -> None:
    book = book_of(10)
    book.handle(CellAsked(1.0, "x", 1))
    assert book.handle(LeaseEnded(2.0, "x", A, 1, 10)) == [ConfirmEnd("x", A, 1)]
    assert book.handle(LeaseEnded(3.0, "x", A, 1, 10)) == [ConfirmEnd("x", A, 1)]
    assert book.handle(LeaseEnded(3.0, "y", A, 0, 10)) == [DropPart("y", A, 0)]
    assert book.num_open_parts == 0


def test_the_slowest_cell_gives_half_of_what_it_has_not_begun() -> None:
    book = book_of(100, 101, 1, cells="xyz")
    for cell in "xyz":
        book.handle(CellAsked(0.0, cell, 1))
    book.handle(CellBeat(2.0, "x", ((B, 1, 21),)))
    book.handle(CellBeat(2.0, "y", ((A, 1, 60),)))
    book.handle(LeaseEnded(2.0, "z", PartKey(2, 0), 1, 1))
    assert book.handle(CellAsked(2.0, "z", 2)) == [SplitPart("x", B, 1, 61)]
    assert book.handle(PartSplit(2.5, "x", B, 1, 61)) == [LeasePart("z", 2, PartKey(1, 61), 101, 1)]


def test_a_split_is_asked_for_again_until_it_is_answered() -> None:
    book = book_of(100)
    book.handle(CellAsked(0.0, "x", 1))
    beat = CellBeat(1.0, "x", ((A, 1, 20),))
    book.handle(beat)
    assert book.handle(CellAsked(1.0, "y", 1)) == [SplitPart("x", A, 1, 60)]
    assert book.handle(beat) == [SplitPart("x", A, 1, 60)]
    assert book.handle(PartSplit(2.0, "x", A, 1, 70)) == [LeasePart("y", 1, PartKey(0, 70), 100, 1)]
    assert book.handle(beat) == []


def test_rows_that_a_cell_leaves_behind_at_an_end_are_leased() -> None:
    book = book_of(100)
    book.handle(CellAsked(0.0, "x", 1))
    book.handle(LeaseEnded(1.0, "x", A, 1, 40))
    assert book.num_open_parts == 1
    assert book.handle(CellAsked(1.0, "y", 1)) == [LeasePart("y", 1, PartKey(0, 40), 100, 1)]


def test_a_lease_that_the_log_refuses_is_given_with_an_epoch_above_the_logs() -> None:
    book = book_of(100)
    book.handle(CellAsked(0.0, "x", 1))
    assert book.handle(LeaseVoid(1.0, "x", A, 1, 4)) == [DropPart("x", A, 1)]
    assert book.handle(CellAsked(1.0, "x", 2)) == [LeasePart("x", 2, A, 100, 5)]
    assert book.handle(LeaseEnded(2.0, "x", A, 1, 100)) == [DropPart("x", A, 1)], "an old epoch of the same cell"


def test_a_new_driver_leaves_parts_to_their_holders() -> None:
    book = book_of(cells="xy")
    book.handle(BucketAdded(1.0, A, 100, 3, "x"))
    book.handle(BucketAdded(1.0, B, 100, 3, "gone"))
    assert book.handle(CellAsked(1.0, "y", 1)) == [LeasePart("y", 1, B, 100, 4)]
    assert book.handle(LeaseEnded(2.0, "x", A, 3, 100)) == [ConfirmEnd("x", A, 3)]


CHOICES = st.integers(0, 10_000)
HAPPENINGS: dict[str, Callable[[World, int], object]] = {
    "arrives": lambda world, choice: world.deliver(choice, copies=1),
    "is lost": lambda world, choice: world.deliver(choice, copies=0),
    "is doubled": lambda world, choice: world.deliver(choice, copies=2),
    "time": lambda world, choice: world.pass_time(0.5 + choice % 3),
    "begins": lambda world, choice: world.begin_rows(),
    "ends": lambda world, choice: world.end_rows(choice),
    "joins": lambda world, choice: world.join() if len(world.cells) < 8 else None,
    "dies": lambda world, choice: world.kill(choice, is_told=choice % 2 == 0),
    "stops": lambda world, choice: world.pause(choice),
    "driver": lambda world, choice: world.restart_driver(),
}
STEPS = st.lists(
    st.tuples(st.sampled_from([*HAPPENINGS, "arrives", "arrives", "begins", "ends"]), CHOICES), max_size=80
)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(1, 3), STEPS)
@settings(max_examples=150, deadline=None)
def test_no_row_is_lost_or_ends_twice_whatever_happens(
    buckets: list[int], num_cells: int, steps: list[tuple[str, int]]
) -> None:
    world = World(buckets, num_cells)
    for name, choice in steps:
        HAPPENINGS[name](world, choice)
        world.check()
    world.finish()
    world.check_all_ended()


@pytest.mark.parametrize("seed", range(20))
def test_long_runs_with_many_faults_end(seed: int) -> None:
    random = Random(seed)
    world = World([random.randint(1, 40) for _ in range(6)], 3)
    names = [*HAPPENINGS, *["arrives"] * 12, *["begins", "ends", "time"] * 4]
    for _ in range(600):
        HAPPENINGS[random.choice(names)](world, random.randrange(10_000))
    world.finish()
    world.check_all_ended()


def test_forty_cells_share_their_work() -> None:
    """40 cells of 25 engines, one of them ten times as slow, one that dies: the last rows end soon after the first cell
    has nothing to do."""
    random = Random(7)
    world = World([random.randint(5, 40) for _ in range(400)], 40)
    total = sum(world.buckets)
    seconds = 0
    while world.book.num_open_parts:
        seconds += 1
        if seconds == 3:
            world.kill(5, is_told=False)
        world.pass_time(1.0)
        while world.to_driver or world.to_cells:
            world.deliver(0, copies=1)
        for number, cell in enumerate(world.running()):
            for _ in range(10 if number else 1):
                cell.begin_row()
                cell.end_row(0)
    world.check_all_ended()
    assert seconds <= 1.25 * total / 391 + 8
