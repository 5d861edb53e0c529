"""The owner of call keys: single events, any order of faults, and many cells."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sundog.cluster.kept_values import KeptValues
from sundog.cluster.owner_events import (
    AnswerBatch,
    AnswerKey,
    AppendValue,
    AskerBeat,
    AskerGone,
    BatchAsked,
    OwnerAction,
    OwnerEvent,
    OwnerTimePassed,
    ReadValue,
    RefuseEpoch,
    ValueLogged,
    ValueRead,
)
from sundog.cluster.owners import OwnerBook
from tests.cluster.owner_world import OwnerWorld


def claim(book: OwnerBook, cell: str, number: int, *keys: str, time_s: float = 0.0) -> list[OwnerAction]:
    return book.handle(BatchAsked(time_s, cell, 1, number, claims=keys))


def put(book: OwnerBook, cell: str, number: int, key: str, value: bytes) -> list[OwnerAction]:
    return book.handle(BatchAsked(0.0, cell, 1, number, puts=((key, value),)))


def wait(book: OwnerBook, cell: str, number: int, *keys: str) -> list[OwnerAction]:
    return book.handle(BatchAsked(0.0, cell, 1, number, waits=keys))


def test_the_first_one_leads_and_the_others_come_later() -> None:
    book = OwnerBook(1_000)
    assert claim(book, "x", 1, "k") == [AnswerBatch("x", 1, 1, (("k", "lead"),))]
    assert claim(book, "y", 1, "k", "m") == [AnswerBatch("y", 1, 1, (("k", "later"), ("m", "lead")))]


def test_a_value_is_seen_when_the_log_has_it() -> None:
    book = OwnerBook(1_000)
    claim(book, "x", 1, "k")
    wait(book, "y", 1, "k")
    assert put(book, "x", 2, "k", b"v") == [AppendValue("k", b"v"), AnswerBatch("x", 1, 2, ())]
    assert claim(book, "z", 1, "k") == [AnswerBatch("z", 1, 1, (("k", "later"),))]
    shown = book.handle(ValueLogged(0.0, "k", (1, 0)))
    assert shown == [AnswerKey("y", 1, 1, "k", b"v"), AnswerKey("x", 1, 2, "k", b"v")]
    assert claim(book, "z", 2, "k") == [AnswerBatch("z", 1, 2, (("k", b"v"),))]


def test_the_first_value_stays() -> None:
    book = OwnerBook(1_000)
    put(book, "x", 1, "k", b"first")
    assert put(book, "y", 1, "k", b"second") == [AnswerBatch("y", 1, 1, ())]
    assert AnswerKey("y", 1, 1, "k", b"first") in book.handle(ValueLogged(0.0, "k", (1, 0)))
    assert AnswerKey("z", 1, 1, "k", b"first") in put(book, "z", 1, "k", b"third")


def test_two_cells_that_claim_crosswise_both_go_on() -> None:
    """Each leads what the other one waits for, in one batch each; no answer waits for an answer."""
    book = OwnerBook(1_000)
    claim(book, "x", 1, "k")
    claim(book, "y", 1, "m")
    assert claim(book, "x", 2, "m", "k") == [AnswerBatch("x", 1, 2, (("m", "later"), ("k", "lead")))]
    assert claim(book, "y", 2, "k", "m") == [AnswerBatch("y", 1, 2, (("k", "later"), ("m", "lead")))]
    wait(book, "x", 3, "m")
    wait(book, "y", 3, "k")
    put(book, "x", 4, "k", b"1")
    put(book, "y", 4, "m", b"2")
    assert AnswerKey("y", 1, 4, "k", b"1") in book.handle(ValueLogged(0.0, "k", (1, 0)))
    assert AnswerKey("x", 1, 4, "m", b"2") in book.handle(ValueLogged(0.0, "m", (1, 1)))


def test_a_batch_that_is_repeated_is_worked_on_once() -> None:
    book = OwnerBook(1_000)
    first = claim(book, "x", 1, "k")
    assert claim(book, "x", 1, "k") == first
    book.handle(BatchAsked(0.0, "x", 1, 2, releases=("k",)))
    assert claim(book, "x", 1, "k") == [], "the answer has come, since the next batch has"
    assert claim(book, "y", 1, "k") == [AnswerBatch("y", 1, 1, (("k", "lead"),))]


@pytest.mark.parametrize("end", ["release", "gone", "silence", "beat", "epoch"])
def test_a_lead_that_ends_without_a_value_goes_to_one_who_waits(end: str) -> None:
    book = OwnerBook(1_000)
    claim(book, "x", 1, "k")
    claim(book, "y", 1, "k", time_s=4.0)
    wait(book, "y", 2, "k")
    ends: dict[str, OwnerEvent] = {
        "release": BatchAsked(4.0, "x", 1, 2, releases=("k",)),
        "gone": AskerGone(4.0, "x"),
        "silence": OwnerTimePassed(5.0),
        "beat": AskerBeat(4.0, "x", 1, 1, frozenset()),
        "epoch": AskerBeat(4.0, "x", 2, 0, frozenset()),
    }
    assert AnswerKey("y", 1, 2, "k", "lead") in book.handle(ends[end])
    assert claim(book, "z", 1, "k") == [AnswerBatch("z", 1, 1, (("k", "later"),))]


def test_an_epoch_that_is_over_is_refused() -> None:
    book = OwnerBook(1_000)
    claim(book, "x", 1, "k")
    book.handle(OwnerTimePassed(5.0))
    assert put(book, "x", 2, "k", b"late") == [RefuseEpoch("x", 1)]
    assert book.handle(AskerBeat(6.0, "x", 1, 1, frozenset())) == [RefuseEpoch("x", 1)]
    assert book.handle(BatchAsked(6.0, "x", 2, 1, claims=("k",))) == [AnswerBatch("x", 2, 1, (("k", "lead"),))]


def test_a_beat_leaves_what_is_wanted_and_what_is_asked_later() -> None:
    book = OwnerBook(1_000)
    claim(book, "x", 1, "k")
    book.handle(AskerBeat(1.0, "x", 1, 1, frozenset({"k"})))
    book.handle(AskerBeat(1.0, "x", 1, 0, frozenset()))
    assert claim(book, "y", 1, "k") == [AnswerBatch("y", 1, 1, (("k", "later"),))]


def test_a_value_that_was_thrown_away_is_read_from_the_log() -> None:
    book = OwnerBook(5, logged={"k": (3, 40)})
    assert claim(book, "x", 1, "k") == [ReadValue("k", (3, 40)), AnswerBatch("x", 1, 1, (("k", "later"),))]
    assert wait(book, "x", 2, "k") == [AnswerBatch("x", 1, 2, ())], "it is read once"
    assert book.handle(ValueRead(0.0, "k", b"value")) == [AnswerKey("x", 1, 2, "k", b"value")]
    assert claim(book, "y", 1, "k") == [AnswerBatch("y", 1, 1, (("k", b"value"),))]


def test_the_least_recently_used_value_is_thrown_away() -> None:
    kept = KeptValues(10)
    kept.keep("a", b"1234")
    kept.keep("b", b"1234")
    kept.get("a")
    kept.keep("c", b"1234")
    assert [kept.get(key) for key in "abc"] == [b"1234", None, b"1234"]
    kept.keep("large", b"12345678901")
    assert kept.get("large") is None
    assert kept.num_bytes <= 10


HAPPENINGS: dict[str, Callable[[OwnerWorld, int], object]] = {
    "arrives": lambda world, choice: world.deliver(choice, copies=1),
    "is lost": lambda world, choice: world.deliver(choice, copies=0),
    "is doubled": lambda world, choice: world.deliver(choice, copies=2),
    "time": lambda world, choice: world.pass_time(0.5 + choice % 3),
    "speak": lambda world, choice: world.speak(),
    "want": OwnerWorld.want,
    "call": OwnerWorld.make_call,
    "call fails": OwnerWorld.fail_call,
    "give up": OwnerWorld.give_up,
    "disk": OwnerWorld.work_of_disk,
    "dies": lambda world, choice: world.replace_cell(choice, is_told=choice % 2 == 0),
    "stops": OwnerWorld.pause,
    "owner": OwnerWorld.restart_owner,
}
FREQUENT = ["arrives", "arrives", "speak", "want", "call", "disk"]
STEPS = st.lists(st.tuples(st.sampled_from([*HAPPENINGS, *FREQUENT]), st.integers(0, 10_000)), max_size=80)


@given(st.integers(1, 4), STEPS)
@settings(max_examples=150, deadline=None)
def test_a_key_has_one_value_and_nobody_waits_for_ever(num_cells: int, steps: list[tuple[str, int]]) -> None:
    world = OwnerWorld(num_cells)
    for name, choice in steps:
        HAPPENINGS[name](world, choice)
        world.check()
    world.finish()
    world.check()


@pytest.mark.parametrize("seed", range(15))
def test_long_runs_with_many_faults_end(seed: int) -> None:
    random = Random(seed)
    world = OwnerWorld(4)
    names = [*HAPPENINGS, *FREQUENT * 4]
    for _ in range(600):
        HAPPENINGS[random.choice(names)](world, random.randrange(10_000))
    world.finish()
    world.check()


def test_forty_cells_make_each_call_once() -> None:
    random = Random(3)
    world = OwnerWorld(40, max_bytes=2_000)
    for cell in world.cells.values():
        cell.wanted = {f"k{int(random.paretovariate(0.6)) % 1_500}": "new" for _ in range(60)}
    distinct = {key for cell in world.cells.values() for key in cell.wanted}
    world.finish()
    world.check()
    assert world.num_calls == len(distinct) == len(world.log)
