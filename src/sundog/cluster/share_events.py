"""The events (past participles) and actions (imperatives) between the book of shares of a run's driver and its cells.

Never decides. Shares are of limits that hold for the whole run: calls at once of a tool or a hosted API, which are free
again when they end, and budgets, which are not. All numbers are whole: calls, tokens, billionths of a dollar.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SharerJoined:
    """A cell wants shares of all limits, and gets them when they are due. Its name is new."""

    cell: str
    #: By limit, all of them, the share that it begins with: those that begin together have theirs at once.
    holds: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SharerGone:
    """A cell has ended, and its log is sealed; nothing is told of it any more. Calls of one that was only taken for
    dead may run on until it finds out, beside the shares of others."""

    cell: str
    #: By budget, all of them, the most that it can have used, as its log shows.
    spent: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class DemandTold:
    """A cell tells how many calls it could have under way at once, those that are included."""

    cell: str
    limit: str
    amount: int


@dataclass(frozen=True, slots=True)
class BudgetTold:
    """A cell tells how it stands with its share of a budget."""

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

    cell: str
    limit: str
    #: The number of the SetShare that it answers.
    number: int
    amount: int


@dataclass(frozen=True, slots=True)
class SharesDue:
    """It is time to share anew. Told twice a second."""


ShareEvent = SharerJoined | SharerGone | DemandTold | BudgetTold | ShareTaken | SharesDue


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
