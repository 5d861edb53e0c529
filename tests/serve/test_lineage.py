"""The roots of sessions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sundog.serve.lineage import MAX_DEPTH, Lineage


def test_a_session_without_a_parent_is_its_own_root() -> None:
    assert Lineage(4).root("a", "") == "a"


def test_children_of_children_have_one_root() -> None:
    lineage = Lineage(4)
    assert [lineage.root(*pair) for pair in [("b", "a"), ("c", "b"), ("d", "c"), ("c", "")]] == ["a"] * 4


def test_a_parent_that_becomes_a_child_takes_its_children_along() -> None:
    lineage = Lineage(4)
    lineage.root("c", "b")
    lineage.root("b", "a")
    assert lineage.root("c", "") == "a"


def test_no_session_becomes_its_own_forebear() -> None:
    lineage = Lineage(4)
    assert lineage.root("a", "a") == "a"
    lineage.root("b", "a")
    lineage.root("c", "b")
    assert lineage.root("a", "c") == "a"
    assert lineage.root("c", "") == "a"


def test_the_oldest_are_forgotten_first_and_use_keeps_young() -> None:
    lineage = Lineage(2)
    lineage.root("b", "a")
    lineage.root("d", "c")
    lineage.root("b", "")
    lineage.root("f", "e")
    assert [lineage.root(one, "") for one in ("b", "d", "f")] == ["a", "d", "e"]
    assert len(lineage) == 2


def test_a_session_keeps_those_above_it_young() -> None:
    lineage = Lineage(3)
    lineage.root("b", "a")
    lineage.root("c", "b")
    lineage.root("z", "y")
    lineage.root("c", "")
    lineage.root("x", "w")
    assert (lineage.root("c", ""), lineage.root("z", "")) == ("a", "z")


def test_a_session_that_ended_has_no_parent_any_more() -> None:
    lineage = Lineage(4)
    lineage.root("b", "a")
    lineage.forget("b")
    lineage.forget("never there")
    assert lineage.root("b", "") == "b"


NAMES = st.sampled_from("abcdefgh")


@given(st.lists(st.tuples(NAMES, NAMES | st.just("")), max_size=60), st.integers(1, 6))
def test_any_pairs_end_at_a_root_within_bounds(pairs: list[tuple[str, str]], most: int) -> None:
    lineage = Lineage(most)
    for session, parent in pairs:
        root = lineage.root(session, parent)
        assert len(lineage) <= most
        assert root == lineage.root(session, "")
        assert root == lineage.root(root, "")


def test_a_long_way_is_cut() -> None:
    lineage = Lineage(200)
    for number in range(100):
        lineage.root(str(number), str(number + 1))
    assert lineage.root("0", "") == str(MAX_DEPTH)
