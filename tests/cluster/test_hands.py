"""Servers dealt out to cells: each is used, none is overused, and few change hands."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sundog.cluster.hands import HandBook, ServerHand

HAPPENINGS = st.sampled_from(["cell came", "cell went", "server came", "server leaves", "server went"])


@given(st.lists(st.tuples(HAPPENINGS, st.integers(0, 6)), max_size=60))
def test_every_server_is_used_and_cells_have_as_many_as_others(steps: list[tuple[str, int]]) -> None:
    book = HandBook()
    cells: dict[str, ServerHand] = {}
    urls: set[str] = set()
    for what, number in steps:
        cell, url = f"c{number}", f"u{number}"
        if what == "cell came":
            cells.setdefault(cell, ServerHand())
            changed = book.cell_came(cell)
        elif what == "cell went":
            cells.pop(cell, None)
            changed = book.cell_went(cell)
        elif what == "server came":
            urls.add(url)
            changed = book.server_came(url)
        else:
            urls.discard(url)
            changed = book.server_leaves(url) if what == "server leaves" else book.server_went(url)
        cells.update(changed)
        assert changed.keys() <= cells.keys()
        users = Counter(url for hand in cells.values() for url in hand.urls)
        assert users.keys() == (urls if cells else set()), "those that may be used, and no others"
        sizes = [len(hand.urls) for hand in cells.values()]
        if cells and urls:
            assert max(sizes) - min(sizes) <= 1
            assert max(users.values()) - min(users.values()) <= 1
            assert all(hand.num_sharing >= users[url] for hand in cells.values() for url in hand.urls)
            assert min(sizes) >= 1, "no cell stands still while there is a server"
        assert not any(set(hand.gone) & urls for hand in cells.values())


def test_few_servers_change_hands() -> None:
    book = HandBook()
    for number in range(12):
        book.server_came(f"u{number}")
    book.cell_came("x")
    hands = book.cell_came("y")
    assert sorted(len(hand.urls) for hand in hands.values()) == [6, 6]
    before = set(hands["x"].urls)
    hands = book.cell_came("z")
    assert [len(hand.urls) for hand in hands.values()] == [4, 4, 4]
    assert set(hands["x"].urls) < before
    kept = set(hands["y"].urls)
    after = book.cell_went("z")
    assert kept < set(after["y"].urls)


def test_a_cell_hears_of_its_servers_that_are_gone_and_of_no_others() -> None:
    book = HandBook()
    book.cell_came("x")
    book.server_came("u")
    assert book.server_leaves("u") == {"x": ServerHand()}
    assert book.server_went("u") == {"x": ServerHand(gone=("u",))}
    assert book.server_went("v") == {}
    assert book.server_came("u") == {"x": ServerHand(("u",))}


def test_cells_share_the_places_of_servers_that_are_too_few() -> None:
    book = HandBook()
    book.server_came("u")
    book.cell_came("x")
    assert book.cell_came("y") == {"x": ServerHand(("u",), 2), "y": ServerHand(("u",), 2)}
    changed = book.server_came("v")
    assert sorted(hand.urls for hand in changed.values()) == [("u",), ("v",)]
    assert all(hand.num_sharing == 1 for hand in changed.values())
