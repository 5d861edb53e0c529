"""The events (past participles) and actions (imperatives) between the book of shares of a run's driver and its cells.

Never decides. Shares are of limits that hold for the whole run: calls at once of a tool or a hosted API, which are free
again when they end, and budgets, which are not. All numbers are whole: calls, tokens, billionths of a dollar.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LimitSet:
    """A limit holds for the run, from its begin on: `amount` is 0 or more."""

    time_s: float
    limit: str
    amount: int
    #: True for a budget: what a cell has used of its share stays used, also when the cell ends.
    is_budget: bool = False


@dataclass(frozen=True, slots=True)
class SharerJoined:
    """A cell wants shares of all limits. Its name is new."""

    time_s: float
    cell: str
    #: The shares that it begins with, by limit, as those get them who begin together; of a limit that is not named it
    #: has nothing until it is told.
    holds: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class SharerGone:
    """A cell has ended, and no call of it can run any more: it was seen to end, or it has been silent for so long that
    it has stopped by its own clock."""

    time_s: float
    cell: str
    #: By budget, the most that it can have used, as its logs show; its whole share of a budget that is not named.
    spent: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class DemandTold:
    """A cell tells how many calls it could have under way at once, those that are included."""

    time_s: float
    cell: str
    limit: str
    amount: int


@dataclass(frozen=True, slots=True)
class BudgetTold:
    """A cell tells how it stands with its share of a budget."""

    time_s: float
    cell: str
    limit: str
    #: The cost of its calls that have ended.
    spent: int
    #: The most that those may cost which are under way.
    held: int
    #: The most that the first one may cost which waits for a larger share, 0 where none does.
    asked: int


@dataclass(frozen=True, slots=True)
class ShareTaken:
    """A cell answers SetShare: `amount` is its share now, and it uses no more. Where it uses more than it was told to,
    it begins nothing and answers again when less is used; of a budget it answers with what it has used."""

    time_s: float
    cell: str
    limit: str
    #: The number of the SetShare that it answers.
    number: int
    amount: int


@dataclass(frozen=True, slots=True)
class SharesDue:
    """It is time to share anew. Told each second."""

    time_s: float


ShareEvent = LimitSet | SharerJoined | SharerGone | DemandTold | BudgetTold | ShareTaken | SharesDue


@dataclass(frozen=True, slots=True)
class SetShare:
    """Tell a cell its share of a limit. It obeys the highest number that it has seen, and answers it with ShareTaken
    each time that it hears it."""

    cell: str
    limit: str
    #: The number of this word, one more for each of this cell and limit.
    number: int
    amount: int


@dataclass(frozen=True, slots=True)
class BudgetUsedUp:
    """A cell's next call fits into no share any more, whatever the calls under way will cost less than they may. Said
    once for each budget."""

    limit: str
    #: The cost of all calls of all cells that have ended.
    spent: int
    asked: int


ShareAction = SetShare | BudgetUsedUp
