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
    CountRows,
    DropPart,
    LeaseEnded,
    LeasePart,
    LeaseTimePassed,
    PartKey,
    PartSplit,
    SealLog,
    SplitPart,
)
from sundog.cluster.leases import LeaseBook
from tests.cluster.lease_world import World

A, B = PartKey(0, 0), PartKey(1, 0)


def book_of(*sizes: int, cells: str = "xy") -> LeaseBook:
    book = LeaseBook()
    for bucket, size in enumerate(sizes):
        book.handle(BucketAdded(0.0, bucket, size))
    for cell in cells:
        book.handle(CellJoined(0.0, cell))
    return book


def test_the_largest_bucket_is_leased_first() -> None:
    book = book_of(10, 30)
    assert book.handle(CellAsked(1.0, "x", 1)) == [LeasePart("x", 1, B, 30)]
    assert book.handle(CellAsked(1.0, "y", 1)) == [LeasePart("y", 1, A, 10)]


def test_the_parts_of_a_silent_cell_are_leased_once_its_log_is_sealed() -> None:
    book = book_of(10)
    book.handle(CellAsked(1.0, "x", 1))
    book.handle(CellAsked(1.0, "y", 1))
    assert book.handle(CellBeat(4.9, "y")) == []
    assert book.handle(LeaseTimePassed(4.9)) == []
    assert book.handle(LeaseTimePassed(5.0)) == [SealLog("x"), LeasePart("y", 1, A, 10, ("x",))]
    assert book.handle(LeaseEnded(6.5, "y", A)) == [CountRows("y", A, 10)]


def test_whoever_gets_rows_reads_the_logs_of_all_that_are_gone_and_held_some_of_their_bucket() -> None:
    book = book_of(10, 8, cells="xyz")
    for cell in "xy":
        book.handle(CellAsked(1.0, cell, 1))
    assert book.handle(CellGone(1.1, "x")) == [SealLog("x")]
    assert book.handle(CellAsked(1.2, "y", 2)) == [LeasePart("y", 2, A, 10, ("x",))]
    assert book.handle(CellGone(1.3, "y")) == [SealLog("y")]
    assert book.handle(CellAsked(1.4, "z", 1)) == [LeasePart("z", 1, A, 10, ("x", "y"))]
    assert book.handle(CellAsked(1.5, "z", 2)) == [LeasePart("z", 2, B, 8, ("y",))]


def test_a_lease_that_a_beat_does_not_tell_of_is_told_again() -> None:
    book = book_of(10)
    lease = book.handle(CellAsked(1.0, "x", 1))
    assert book.handle(CellBeat(2.0, "x")) == lease
    assert book.handle(CellBeat(3.0, "x", ((A, 0),))) == []


def test_a_part_is_dropped_once_its_end_is_known() -> None:
    book = book_of(10)
    book.handle(CellAsked(1.0, "x", 1))
    assert book.handle(LeaseEnded(2.0, "x", A)) == [CountRows("x", A, 10)]
    for time_s in (2.0, 2.5):
        assert book.handle(CellBeat(time_s, "x", ((A, 10),))) == [DropPart("x", A)]
    assert book.handle(CellBeat(3.0, "x")) == []


def test_the_slowest_cell_gives_half_of_what_it_has_not_begun() -> None:
    book = book_of(100, 101, 1, cells="xyz")
    for cell in "xyz":
        book.handle(CellAsked(0.0, cell, 1))
    book.handle(CellBeat(2.0, "x", ((B, 21),)))
    book.handle(CellBeat(2.0, "y", ((A, 60),)))
    book.handle(LeaseEnded(2.0, "z", PartKey(2, 0)))
    assert book.handle(CellAsked(2.0, "z", 2)) == [SplitPart("x", B, 61)]
    assert book.handle(PartSplit(2.5, "x", B, 61)) == [LeasePart("z", 2, PartKey(1, 61), 101)]
    assert book.handle(LeaseEnded(3.0, "x", B)) == [CountRows("x", B, 61)]


def test_a_split_is_asked_for_again_until_it_is_answered() -> None:
    book = book_of(100)
    book.handle(CellAsked(0.0, "x", 1))
    beat = CellBeat(1.0, "x", ((A, 20),))
    book.handle(beat)
    assert book.handle(CellAsked(1.0, "y", 1)) == [SplitPart("x", A, 60)]
    assert book.handle(beat) == [SplitPart("x", A, 60)]
    assert book.handle(PartSplit(2.0, "x", A, 70)) == [LeasePart("y", 1, PartKey(0, 70), 100)]
    assert book.handle(PartSplit(2.1, "x", A, 70)) == [], "it has heard the question twice"
    assert book.handle(beat) == []


def test_a_part_of_which_nothing_can_be_given_up_is_left_to_its_holder() -> None:
    book = book_of(100)
    book.handle(CellAsked(0.0, "x", 1))
    book.handle(CellBeat(1.0, "x", ((A, 20),)))
    book.handle(CellAsked(1.0, "y", 1))
    assert book.handle(PartSplit(2.0, "x", A, 100)) == []
    assert book.handle(CellBeat(3.0, "x", ((A, 30),))) == []
    assert book.handle(LeaseEnded(4.0, "x", A)) == [CountRows("x", A, 100)]
    assert book.handle(PartSplit(4.1, "x", A, 100)) == [], "it was asked again as it ended"


CHOICES = st.integers(0, 10_000)
HAPPENINGS: dict[str, Callable[[World, int], object]] = {
    "says": World.say,
    "arrives": lambda world, choice: world.deliver(choice, copies=1),
    "is lost": lambda world, choice: world.deliver(choice, copies=0),
    "is doubled": lambda world, choice: world.deliver(choice, copies=2),
    "time": lambda world, choice: world.pass_time(0.5 + choice % 3),
    "starts": lambda world, choice: world.start_cells(),
    "begins": lambda world, choice: world.begin_rows(),
    "ends": World.end_rows,
    "seals": World.seal,
    "joins": World.join,
    "dies": lambda world, choice: world.kill(choice, is_told=choice % 2 == 0),
    "stops": World.pause,
    "is cut": World.cut,
    "driver": lambda world, choice: world.restart_driver(),
}
FREQUENT = ["says", "says", "arrives", "arrives", "begins", "ends", "ends", "time"]
STEPS = st.lists(st.tuples(st.sampled_from([*HAPPENINGS, *FREQUENT]), CHOICES), max_size=100)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(1, 3), STEPS)
@settings(max_examples=150, deadline=None)
def test_no_row_is_lost_or_counts_twice_whatever_happens(
    buckets: list[int], num_cells: int, steps: list[tuple[str, int]]
) -> None:
    world = World(buckets, num_cells)
    for name, choice in steps:
        HAPPENINGS[name](world, choice)
    world.finish()
    world.check_all_ended()


def hear_all(world: World, choice: int) -> None:
    """Half a second passes, and nothing of what cells have said is late."""
    world.pass_time(0.5)
    while any(cell.says for cell in world.cells.values()):
        world.say(choice)


OF_THE_NETWORK = {
    **{name: HAPPENINGS[name] for name in ("arrives", "is lost", "is doubled", "begins", "ends")},
    "hears": hear_all,
}


@pytest.mark.parametrize("seed", range(20))
def test_words_that_are_lost_late_or_doubled_have_no_row_begin_twice(seed: int) -> None:
    random = Random(seed)
    world = World([random.randint(1, 40) for _ in range(6)], 4)
    for _ in range(2):
        world.start_cells()
    for _ in range(300):
        OF_THE_NETWORK[random.choice([*OF_THE_NETWORK, "begins", "ends"])](world, random.randrange(10_000))
    world.finish()
    world.check_all_ended()
    assert world.num_begun == world.num_rows


@pytest.mark.parametrize("seed", range(20))
def test_long_runs_with_many_faults_end(seed: int) -> None:
    random = Random(seed)
    # Every second one has one driver only, so that cell after cell is lost with rows of one bucket.
    world = World([random.randint(1, 40) for _ in range(6)], 3)
    rare = ["dies", "stops", "stops", "is cut", "joins", "joins", "starts", "seals", "is lost", "is doubled"]
    names = [*(["driver"] if seed % 2 else []), *rare * 3, *FREQUENT * 12]
    for _ in range(800):
        HAPPENINGS[random.choice(names)](world, random.randrange(10_000))
    world.finish()
    world.check_all_ended()


def test_a_cell_that_stood_still_and_goes_on_writes_nothing_after_its_seal() -> None:
    """It ends with its next batch; what it had done before that counts, and the rest is done by the other one."""
    world = World([12], 2)
    first, second = world.cells.values()
    for _ in range(2):
        world.start_cells()
    second.is_paused = True
    for _ in range(2):
        world.pass_time(0.5)
        world.exchange()
        world.begin_rows()
    for _ in range(3):
        world.end_rows(0)
    log = world.logs[first.name]
    assert (len(log.rows), len(first.unsent)) == (2, 1)
    first.is_paused, second.is_paused = True, False
    world.pass_time(3.0)
    world.exchange()
    world.pass_time(3.0)
    world.exchange()
    assert log.is_sealed
    assert second.store == log.rows, "it has read the log before its first row"
    first.is_paused = False
    world.begin_rows()
    world.end_rows(0)
    assert first.has_ended
    assert len(log.rows) == 2
    world.finish()
    world.check_all_ended()


def test_forty_cells_share_their_work() -> None:
    """40 cells of 25 engines, one of them ten times as slow, one that dies: the last rows end soon after the first cell
    has nothing to do, but for those that the slow one had begun."""
    random = Random(7)
    world = World([random.randint(10, 100) for _ in range(400)], 40, num_slots=25, batch_rows=25)
    for _ in range(2):
        world.start_cells()
    seconds = 0
    while world.driver.num_open:
        seconds += 1
        assert seconds < 100, "the run does not end"
        if seconds == 3:
            world.kill(5, is_told=False)
        world.pass_time(1.0)
        world.exchange()
        for number, cell in enumerate(world.living()):
            cell.begin_rows()
            for _ in range(25 if number else 2):
                cell.end_row(0)
    world.check_all_ended()
    assert seconds <= 1.1 * world.num_rows / (38 * 25) + 25 / 2
