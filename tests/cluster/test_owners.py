"""The owner of call keys and those who ask it: single events, any order of faults, and many cells."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sundog.cluster.asking import OwnerAsker
from sundog.cluster.kept_values import KeptValues
from sundog.cluster.owner_events import (
    AnswerBatch,
    AppendValue,
    AskerBeat,
    AskerGone,
    BatchAsked,
    KeyNews,
    NewsAsked,
    OwnerAction,
    OwnerEvent,
    RefuseEpoch,
    TellNews,
    ValueLogged,
    ValuesFound,
    WakeListener,
)
from sundog.cluster.owners import OwnerBook
from tests.cluster.owner_world import OwnerWorld


def claim(book: OwnerBook, cell: str, number: int, *keys: bytes, time_s: float = 0.0) -> list[OwnerAction]:
    return book.handle(BatchAsked(time_s, cell, 1, number, claims=keys))


def put(book: OwnerBook, cell: str, number: int, key: bytes, value: bytes) -> list[OwnerAction]:
    return book.handle(BatchAsked(0.0, cell, 1, number, puts=((key, value),)))


def news(book: OwnerBook, cell: str, heard: int = 0, time_s: float = 0.0) -> list[OwnerAction]:
    return book.handle(NewsAsked(time_s, cell, 1, heard))


def answer(number: int, *claims: tuple[bytes, bytes | str], epoch: int = 1) -> AnswerBatch:
    return AnswerBatch(epoch, number, claims, "o")  # type: ignore[arg-type]  # `str` is one of two words here


def told(first: int, *news: KeyNews) -> TellNews:
    return TellNews(1, first, news, "o")


@pytest.fixture
def book() -> OwnerBook:
    return OwnerBook("o")


def test_the_first_one_leads_and_the_others_come_later(book: OwnerBook) -> None:
    assert claim(book, "x", 1, b"k") == [answer(1, (b"k", "lead"))]
    assert claim(book, "y", 1, b"k", b"m") == [answer(1, (b"k", "later"), (b"m", "lead"))]


def test_a_value_is_seen_when_the_log_has_it(book: OwnerBook) -> None:
    claim(book, "x", 1, b"k")
    claim(book, "y", 1, b"k")
    assert put(book, "x", 2, b"k", b"v") == [AppendValue(b"k", b"v"), answer(2)]
    book.handle(ValuesFound(0.0, {b"k": b"v"}))  # committed, and not logged
    assert claim(book, "z", 1, b"k") == [answer(1, (b"k", "later"))]
    assert news(book, "y") == []
    woken = book.handle(ValueLogged(0.0, b"k", b"v"))
    assert woken == [WakeListener("y"), WakeListener("x"), WakeListener("z")]
    assert news(book, "y") == [told(1, KeyNews(1, b"k", b"v"))]
    assert news(book, "x") == [told(1, KeyNews(2, b"k", b"v"))]


def test_a_value_of_the_store_is_the_answer(book: OwnerBook) -> None:
    book.handle(ValuesFound(0.0, {b"k": b"v"}))
    assert claim(book, "x", 1, b"k", b"m") == [answer(1, (b"k", b"v"), (b"m", "lead"))]
    assert claim(book, "y", 1, b"k") == [answer(1, (b"k", "lead"))], "it was found for one batch"


def test_the_first_value_stays(book: OwnerBook) -> None:
    put(book, "x", 1, b"k", b"first")
    assert put(book, "y", 1, b"k", b"second") == [answer(1)]
    book.handle(ValueLogged(0.0, b"k", b"first"))
    assert news(book, "y") == [told(1, KeyNews(1, b"k", b"first"))]
    book.handle(ValuesFound(0.0, {b"k": b"first"}))
    assert put(book, "z", 1, b"k", b"third") == [WakeListener("z"), answer(1)]
    assert news(book, "z") == [told(1, KeyNews(1, b"k", b"first"))]


def test_the_value_that_the_store_had_before_is_told(book: OwnerBook) -> None:
    put(book, "x", 1, b"k", b"second")
    book.handle(ValueLogged(0.0, b"k", b"first"))
    assert news(book, "x") == [told(1, KeyNews(1, b"k", b"first"))]


def test_two_cells_that_claim_crosswise_both_go_on(book: OwnerBook) -> None:
    """Each leads what the other one waits for, in one batch each; no answer waits for an answer."""
    claim(book, "x", 1, b"k")
    claim(book, "y", 1, b"m")
    assert claim(book, "x", 2, b"m", b"k") == [answer(2, (b"m", "later"), (b"k", "lead"))]
    assert claim(book, "y", 2, b"k", b"m") == [answer(2, (b"k", "later"), (b"m", "lead"))]
    put(book, "x", 3, b"k", b"1")
    put(book, "y", 3, b"m", b"2")
    assert WakeListener("y") in book.handle(ValueLogged(0.0, b"k", b"1"))
    assert WakeListener("x") in book.handle(ValueLogged(0.0, b"m", b"2"))


def test_a_batch_that_is_repeated_is_worked_on_once(book: OwnerBook) -> None:
    first = claim(book, "x", 1, b"k")
    assert claim(book, "x", 1, b"k") == first
    book.handle(BatchAsked(0.0, "x", 1, 2, releases=(b"k",)))
    assert claim(book, "x", 1, b"k") == [], "the answer has come, since the next batch has"
    assert claim(book, "y", 1, b"k") == [answer(1, (b"k", "lead"))]


def test_news_are_told_until_they_are_heard(book: OwnerBook) -> None:
    put(book, "x", 1, b"k", b"1")
    put(book, "x", 2, b"m", b"2")
    book.handle(ValueLogged(0.0, b"k", b"1"))
    first = KeyNews(2, b"k", b"1")
    assert news(book, "x") == news(book, "x") == [told(1, first)]
    book.handle(ValueLogged(0.0, b"m", b"2"))
    second = KeyNews(2, b"m", b"2")
    assert news(book, "x") == [told(1, first, second)]
    assert news(book, "x", heard=1) == [told(2, second)]
    assert news(book, "x", heard=2) == []


@pytest.mark.parametrize("end", ["release", "gone", "silence", "epoch"])
def test_a_lead_that_ends_without_a_value_goes_to_one_who_waits(book: OwnerBook, end: str) -> None:
    claim(book, "x", 1, b"k")
    claim(book, "y", 1, b"k", time_s=4.0)
    ends: dict[str, OwnerEvent] = {
        "release": BatchAsked(4.0, "x", 1, 2, releases=(b"k",)),
        "gone": AskerGone(4.0, "x"),
        "silence": AskerBeat(5.0, "y", 1),
        "epoch": AskerBeat(4.0, "x", 2),
    }
    assert WakeListener("y") in book.handle(ends[end])
    assert news(book, "y") == [told(1, KeyNews(1, b"k", "lead"))]
    assert claim(book, "z", 1, b"k") == [answer(1, (b"k", "later"))]


def test_an_epoch_that_is_over_is_refused(book: OwnerBook) -> None:
    claim(book, "x", 1, b"k")
    claim(book, "y", 1, time_s=5.0)
    assert put(book, "x", 2, b"k", b"late") == [RefuseEpoch(1)]
    assert book.handle(AskerBeat(6.0, "x", 1)) == [RefuseEpoch(1)]
    assert news(book, "x", time_s=6.0) == [RefuseEpoch(1)]
    assert book.handle(BatchAsked(6.0, "x", 2, 1, claims=(b"k",))) == [answer(1, (b"k", "lead"), epoch=2)]


def test_who_has_heard_another_owner_is_refused(book: OwnerBook) -> None:
    assert book.handle(BatchAsked(0.0, "x", 1, 4, claims=(b"k",), owner="before")) == [RefuseEpoch(1)]
    assert book.handle(AskerBeat(0.0, "x", 1, owner="before")) == [RefuseEpoch(1)]
    assert claim(book, "y", 1, b"k") == [answer(1, (b"k", "lead"))]


def test_an_asker_that_was_refused_asks_for_all_that_it_wants_leads_and_has_put() -> None:
    asker = OwnerAsker("x")
    for key in (b"asks", b"leads", b"puts"):
        asker.claim(key)
    asker.next_batch()
    asker.hear(answer(1, (b"asks", "later"), (b"leads", "lead"), (b"puts", "lead")))
    asker.put(b"puts", b"v")
    asker.next_batch()
    assert asker.hear(RefuseEpoch(1)) == []
    anew = asker.next_batch()
    assert anew == BatchAsked(0.0, "x", 2, 1, claims=(b"asks",), leads=(b"leads",), puts=((b"puts", b"v"),))
    assert asker.hear(RefuseEpoch(1)) == [], "an old word"
    assert asker.next_batch() == anew
    assert asker.hear(answer(1, (b"asks", b"1"), epoch=2)) == [(b"asks", b"1")]
    asker.put(b"leads", b"late")
    batch = asker.next_batch()
    assert batch is not None
    assert batch.puts == ((b"leads", b"late"),), "a value is put in any case"


def test_what_comes_while_a_batch_is_on_its_way_is_the_next_one() -> None:
    asker = OwnerAsker("x")
    asker.claim(b"k")
    first = asker.next_batch()
    asker.claim(b"m")
    assert asker.next_batch() == first
    assert asker.hear(answer(1, (b"k", "lead"))) == [(b"k", "lead")]
    asker.release(b"k")
    assert asker.next_batch() == BatchAsked(0.0, "x", 1, 2, claims=(b"m",), releases=(b"k",), owner="o")


def test_an_old_answer_does_not_end_a_batch() -> None:
    asker = OwnerAsker("x")
    asker.claim(b"k")
    asker.next_batch()
    asker.hear(answer(1, (b"k", "later")))
    asker.claim(b"m")
    second = asker.next_batch()
    asker.hear(answer(1, (b"k", "later")))
    assert asker.next_batch() == second


def test_the_words_of_another_owner_begin_a_new_epoch() -> None:
    """The first owner's answer was lost with it, and its news were late."""
    asker = OwnerAsker("x")
    asker.claim(b"k")
    asker.next_batch()
    asker.hear(answer(1, (b"k", "later")))
    assert asker.hear(TellNews(1, 1, (KeyNews(1, b"k", "lead"),), "before")) == []
    assert asker.next_batch() == BatchAsked(0.0, "x", 2, 1, claims=(b"k",))


def test_a_lead_that_was_released_is_not_taken() -> None:
    asker = OwnerAsker("x")
    asker.claim(b"k")
    asker.next_batch()
    asker.release(b"k")
    asker.claim(b"k")
    assert asker.hear(answer(1, (b"k", "lead"))) == [], "this lead ends with the release"
    assert asker.hear(told(1, KeyNews(1, b"k", "lead"))) == []
    assert asker.next_batch() == BatchAsked(0.0, "x", 1, 2, claims=(b"k",), releases=(b"k",), owner="o")


def test_a_value_that_was_put_is_told_though_nobody_waits_for_it() -> None:
    asker = OwnerAsker("x")
    asker.claim(b"k")
    asker.next_batch()
    asker.hear(answer(1, (b"k", "lead")))
    asker.put(b"k", b"v")
    asker.release(b"k")
    batch = asker.next_batch()
    assert batch is not None
    assert batch.puts == ((b"k", b"v"),)
    assert asker.hear(told(1, KeyNews(2, b"k", b"v"))) == []
    assert asker.listening() == NewsAsked(0.0, "x", 1, 1, "o")


def test_the_least_recently_used_value_is_thrown_away() -> None:
    kept = KeptValues(10)
    kept.keep(b"a", b"1234")
    kept.keep(b"b", b"1234")
    kept.get(b"a")
    kept.keep(b"c", b"1234")
    assert [kept.get(key) for key in (b"a", b"b", b"c")] == [b"1234", None, b"1234"]
    kept.keep(b"large", b"12345678901")
    assert kept.get(b"large") is None
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
OF_THE_NETWORK = [*FREQUENT, "is lost", "is doubled"]
CHOICES = st.integers(0, 10_000)


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from([*HAPPENINGS, *FREQUENT]), CHOICES), max_size=80))
@settings(max_examples=150, deadline=None)
def test_a_key_has_one_value_and_nobody_waits_for_ever(num_cells: int, steps: list[tuple[str, int]]) -> None:
    world = OwnerWorld(num_cells)
    for name, choice in steps:
        HAPPENINGS[name](world, choice)
        world.check()
    world.finish()
    world.check()


@given(st.integers(1, 4), st.lists(st.tuples(st.sampled_from(OF_THE_NETWORK), CHOICES), max_size=80))
@settings(max_examples=150, deadline=None)
def test_a_bad_network_alone_makes_no_call_twice(num_cells: int, steps: list[tuple[str, int]]) -> None:
    world = OwnerWorld(num_cells)
    for name, choice in steps:
        HAPPENINGS[name](world, choice)
    world.finish()
    assert world.num_calls == len(world.log)


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
    world = OwnerWorld(40)
    for cell in world.cells.values():
        for _ in range(60):
            cell.want(b"k%d" % (int(random.paretovariate(0.6)) % 1_500))
    distinct = {key for cell in world.cells.values() for key in cell.wanted}
    world.finish()
    world.check()
    assert world.num_calls == len(distinct) == len(world.log)


def test_an_owner_that_was_started_again_lets_those_lead_who_do() -> None:
    """The first one that asks may want what another cell makes, which has not spoken yet."""
    book = OwnerBook("o", num_cells=3, settled_at_s=1.5)
    assert claim(book, "x", 1, b"led", b"new", b"left") == [
        answer(1, (b"led", "later"), (b"new", "later"), (b"left", "later"))
    ]
    book.check()
    book.handle(BatchAsked(0.5, "y", 1, 1, leads=(b"led", b"alone")))
    book.handle(BatchAsked(0.6, "x", 1, 2, releases=(b"left",)))
    book.check()
    assert book.handle(AskerBeat(1.4, "x", 1)) == []
    assert book.handle(AskerBeat(1.5, "x", 1)) == [WakeListener("x")]
    assert news(book, "x", time_s=1.6) == [told(1, KeyNews(2, b"new", "lead"))]
    assert claim(book, "x", 3, b"alone", b"left", time_s=1.7) == [answer(3, (b"alone", "later"), (b"left", "lead"))]
    book.check()


def test_an_owner_that_was_started_again_waits_for_no_more_cells_than_there_are() -> None:
    """A cell that has only said that it lives has not told yet what it leads."""
    book = OwnerBook("o", num_cells=2, settled_at_s=4.0)
    assert claim(book, "x", 1, b"led", b"new") == [answer(1, (b"led", "later"), (b"new", "later"))]
    book.handle(AskerBeat(0.5, "y", 1))
    assert claim(book, "x", 2, b"more", time_s=0.6) == [answer(2, (b"more", "later"))]
    said = book.handle(BatchAsked(0.7, "y", 1, 1, leads=(b"led",)))
    assert said == [answer(1), WakeListener("x"), WakeListener("x")]
    assert news(book, "x", time_s=0.8) == [told(1, KeyNews(2, b"new", "lead"), KeyNews(2, b"more", "lead"))]
    book.check()


def test_a_leader_that_is_gone_before_its_owner_has_settled_leaves_its_keys_to_later_ones() -> None:
    book = OwnerBook("o", num_cells=3, settled_at_s=1.5)
    book.handle(BatchAsked(0.1, "y", 1, 1, leads=(b"k",)))
    claim(book, "x", 1, b"k", time_s=0.2)
    assert book.handle(AskerGone(0.3, "y")) == []
    book.check()
    assert book.handle(AskerBeat(1.5, "x", 1)) == [WakeListener("x")]
    assert news(book, "x", time_s=1.6) == [told(1, KeyNews(1, b"k", "lead"))]
