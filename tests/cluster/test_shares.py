"""The shares of limits: what is fair, and that no order of lost and late words lets cells pass a limit."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sundog.cluster.share_events import (
    BudgetTold,
    BudgetUsedUp,
    DemandTold,
    SetShare,
    ShareEvent,
    SharerGone,
    SharerJoined,
    SharesDue,
    ShareTaken,
)
from sundog.cluster.shares import ShareBook, budget_amounts, fair_amounts


@pytest.mark.parametrize(
    ("amount", "demands", "shares"),
    [
        (10, {"x": 3, "y": 20}, {"x": 3, "y": 7}),
        (10, {"x": 0, "y": 20}, {"x": 1, "y": 9}),
        (10, {"x": 20, "y": 20}, {"x": 5, "y": 5}),
        (10, {"x": 1, "y": 2}, {"x": 5, "y": 5}),
        (1, {"x": 0, "y": 5}, {"x": 0, "y": 1}),
        (0, {"x": 1, "y": 5}, {"x": 0, "y": 0}),
        (7, {}, {}),
    ],
)
def test_shares_follow_demand(amount: int, demands: dict[str, int], shares: dict[str, int]) -> None:
    assert fair_amounts(amount, demands) == shares


@given(st.integers(0, 200), st.dictionaries(st.sampled_from("uvwxyz"), st.integers(0, 90)))
def test_shares_use_the_limit_whole_and_leave_nobody_out(amount: int, demands: dict[str, int]) -> None:
    shares = fair_amounts(amount, demands)
    assert sum(shares.values()) == (amount if demands else 0)
    assert amount < len(demands) or all(share >= 1 for share in shares.values())
    for name, share in shares.items():
        if share < demands[name]:
            assert share >= max(shares.values()) - 1, "nobody has more than one who wants more"


def book_of(limits: dict[str, int], budgets: dict[str, int], **holds: int) -> ShareBook:
    """A book with cells that have the same share of each limit."""
    book = ShareBook(limits, budgets)
    for cell, amount in holds.items():
        assert book.handle(SharerJoined(cell, dict.fromkeys(limits | budgets, amount))) == []
    return book


def test_a_share_is_lowered_before_another_one_is_raised() -> None:
    book = book_of({"tool": 10}, {}, x=10, y=0)
    assert book.handle(SharesDue()) == [SetShare("x", "tool", 1, 5)]
    book.handle(DemandTold("x", "tool", 9))
    assert book.handle(SharesDue())[0] == SetShare("x", "tool", 2, 9)
    assert book.handle(ShareTaken("x", "tool", 1, 5)) == [], "the answer to an earlier word"
    assert book.handle(ShareTaken("x", "tool", 2, 9)) == [SetShare("y", "tool", 1, 1)]


def test_a_word_that_is_not_answered_is_told_again() -> None:
    book = book_of({"tool": 10}, {}, x=0)
    word = book.handle(SharesDue())
    assert word == [SetShare("x", "tool", 1, 10)]
    assert book.handle(SharesDue()) == word
    book.handle(ShareTaken("x", "tool", 1, 10))
    assert book.handle(SharesDue()) == []


def test_what_a_gone_cell_has_spent_stays_spent() -> None:
    book = book_of({}, {"dollars": 100}, x=100, y=0)
    assert book.handle(SharerGone("x", {"dollars": 30})) == [SetShare("y", "dollars", 1, 70)]


def test_cells_that_begin_together_have_their_shares_at_once() -> None:
    book = book_of({"tool": 10}, {}, x=5, y=5)
    assert book.handle(SharesDue()) == []
    assert book.handle(SharerJoined("z", {"tool": 0})) == []
    assert book.handle(SharesDue()) == [SetShare("x", "tool", 1, 4), SetShare("y", "tool", 1, 3)]
    with pytest.raises(AssertionError, match="begins with more of tool than there is"):
        book.handle(SharerJoined("w", {"tool": 1}))


@pytest.mark.parametrize(
    ("amount", "uses", "shares"),
    [
        (100, {"x": (30, 0), "y": (10, 0)}, {"x": 60, "y": 40}),
        (100, {"x": (24, 2), "y": (24, 2), "z": (24, 2), "w": (24, 2)}, {"x": 26, "y": 26, "z": 24, "w": 24}),
        (100, {"x": (90, 20), "y": (5, 3)}, {"x": 91, "y": 9}),
        (100, {"x": (90, 0), "y": (20, 5)}, {"x": 90, "y": 20}),
    ],
)
def test_a_budget_lets_whole_calls_start(amount: int, uses: dict[str, tuple[int, int]], shares: dict[str, int]) -> None:
    assert budget_amounts(amount, uses) == shares


def test_a_budget_is_used_up_when_a_call_fits_whatever_ends() -> None:
    book = book_of({}, {"tokens": 100}, x=50, y=50)
    book.handle(BudgetTold("x", "tokens", 40, 10, 0))
    book.handle(BudgetTold("y", "tokens", 30, 10, 25))
    assert book.handle(SharesDue()) == [SetShare("y", "tokens", 1, 45)], "what x holds may come back"
    book.handle(BudgetTold("x", "tokens", 46, 0, 0))
    assert book.handle(SharesDue())[0] == BudgetUsedUp("tokens", 76, 25)
    assert not any(isinstance(action, BudgetUsedUp) for action in book.handle(SharesDue())), "it is said once"


def test_a_call_that_costs_more_than_it_may_takes_from_what_others_may_use() -> None:
    book = book_of({}, {"tokens": 100}, x=50, y=50)
    book.handle(BudgetTold("x", "tokens", 70, 0, 0))
    assert book.handle(SharesDue()) == [SetShare("y", "tokens", 1, 15)]
    assert book.handle(ShareTaken("y", "tokens", 1, 15)) == [SetShare("x", "tokens", 1, 85)]


@dataclass
class Sharer:
    """A cell as the events ask for it to be. It uses all that it may, and of a tool it gives back what it has to."""

    share: int = 0
    used: int = 0
    heard: int = 0
    unanswered: SetShare | None = None


class ShareWorld:
    """One limit, and cells that come and go. Nothing is told of a cell that is gone."""

    def __init__(self, amount: int, *, is_budget: bool) -> None:
        self.amount = amount
        self.is_budget = is_budget
        self.book = ShareBook({}, {"limit": amount}) if is_budget else ShareBook({"limit": amount}, {})
        self.cells: dict[str, Sharer] = {}
        self.words: list[SetShare] = []
        self.answers: list[ShareTaken] = []
        self.spent = 0
        self.num_joined = 0

    def tell(self, event: ShareEvent) -> None:
        actions = self.book.handle(event)
        self.words += [action for action in actions if isinstance(action, SetShare)]
        self.book.check()

    def act(self, name: str, choice: int) -> None:
        cells = list(self.cells)
        match name:
            case "joins" if len(cells) < 5:
                self.num_joined += 1
                self.cells[f"c{self.num_joined}"] = Sharer()
                self.tell(SharerJoined(f"c{self.num_joined}", {"limit": 0}))
            case "goes" if cells:
                cell = self.cells.pop(cells[choice % len(cells)])
                self.spent += cell.used if self.is_budget else 0
                self.tell(SharerGone(cells[choice % len(cells)], {"limit": cell.used}))
            case "demands" if cells and self.is_budget:
                name_of_one = cells[choice % len(cells)]
                self.tell(BudgetTold(name_of_one, "limit", self.cells[name_of_one].used, 0, choice % 9))
            case "demands" if cells:
                self.tell(DemandTold(cells[choice % len(cells)], "limit", choice % 40))
            case "is due":
                self.tell(SharesDue())
            case "uses" if cells:
                cell = self.cells[cells[choice % len(cells)]]
                cell.used = max(cell.used, min(cell.share, cell.used + choice % 7))
            case "ends" if cells and not self.is_budget:
                cell = self.cells[cells[choice % len(cells)]]
                cell.used = max(0, cell.used - choice % 7)
            case "word" | "word lost" | "word doubled" if self.words:
                place = choice % len(self.words)
                word = self.words[place] if name == "word doubled" else self.words.pop(place)
                if name != "word lost":
                    self.hear(word)
            case "answer" | "answer lost" | "answer doubled" if self.answers:
                place = choice % len(self.answers)
                answer = self.answers[place] if name == "answer doubled" else self.answers.pop(place)
                if name != "answer lost" and answer.cell in self.cells:
                    self.tell(answer)
        for name_of_cell in self.cells:
            self.answer(name_of_cell)
        may_use = sum(max(cell.share, cell.used) for cell in self.cells.values())
        assert may_use + self.spent <= self.amount, "the cells may use more than the limit"

    def hear(self, word: SetShare) -> None:
        cell = self.cells.get(word.cell)
        if cell is not None and word.number >= cell.heard:
            if word.number > cell.heard:
                cell.share = max(word.amount, cell.used) if self.is_budget else word.amount
            cell.heard, cell.unanswered = word.number, word

    def answer(self, name: str) -> None:
        cell = self.cells[name]
        if cell.unanswered is not None and cell.used <= cell.share:
            self.answers.append(ShareTaken(name, "limit", cell.heard, cell.share))
            cell.unanswered = None

    def finish(self) -> None:
        """No word is lost any more, and calls end: each cell has its share."""
        for _ in range(8):
            self.act("is due", 0)
            while self.words or self.answers:
                self.act("word", 0)
                self.act("answer", 0)
            for cell in self.cells.values():
                cell.used = min(cell.used, cell.share)


HAPPENINGS = [
    *["joins", "goes", "demands", "is due", "uses", "ends"],
    *["word", "word lost", "word doubled", "answer", "answer lost", "answer doubled", "word", "answer"],
]
STEPS = st.lists(st.tuples(st.sampled_from(HAPPENINGS), st.integers(0, 1_000)), max_size=80)


@given(st.integers(0, 30), st.booleans(), STEPS)
@settings(max_examples=200, deadline=None)
def test_no_limit_is_passed_whatever_happens(amount: int, is_budget: bool, steps: list[tuple[str, int]]) -> None:
    world = ShareWorld(amount, is_budget=is_budget)
    for name in ("joins", "joins", "is due", "word", "word", "answer", "answer"):
        world.act(name, 0)
    for name, choice in steps:
        world.act(name, choice)
    world.finish()
    if not is_budget and world.cells:
        assert sum(cell.share for cell in world.cells.values()) == amount
        assert amount < len(world.cells) or all(cell.share >= 1 for cell in world.cells.values())
