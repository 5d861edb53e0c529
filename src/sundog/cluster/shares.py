"""The book of shares of a run's driver: limits that hold for the whole run, divided among cells by their demand.

Owns the amounts that each cell may use. The sum of what cells may use that are not gone is never above a limit,
whatever is lost or late:
a share is lowered at its cell, which says so, before another one is raised. Only a call that costs more than it was
reserved for takes more of a budget than there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sundog.cluster.share_events import (
    BudgetTold,
    BudgetUsedUp,
    DemandTold,
    SetShare,
    ShareAction,
    ShareEvent,
    SharerGone,
    SharerJoined,
    SharesDue,
    ShareTaken,
)


def fair_amounts(amount: int, demands: Mapping[str, int]) -> dict[str, int]:
    """Return the share of each name: none gets more than it demands while another one wants more than it has, each gets
    1 at least where `amount` allows, and what nobody demands is dealt out evenly."""
    shares: dict[str, int] = {}
    left = amount
    for num_done, name in enumerate(sorted(demands, key=lambda name: demands[name])):
        shares[name] = min(max(1, demands[name]), left // (len(demands) - num_done))
        left -= shares[name]
    for number, name in enumerate(shares):
        shares[name] += left // len(shares) + (number < left % len(shares))
    return shares


def budget_amounts(amount: int, uses: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """Return the share of each name in a budget, by what it has used and what its next call may cost: nobody gets less
    than it has used, then next calls are let start, those that cost least first, and what is left is dealt out evenly.
    A call is let start whole or not at all: so some name goes on as long as there is room for any."""
    shares = {name: used for name, (used, _) in uses.items()}
    left = max(0, amount - sum(shares.values()))
    for name in sorted(uses, key=lambda name: uses[name][1]):
        asked = uses[name][1]
        if asked <= left:
            shares[name] += asked
            left -= asked
    for number, name in enumerate(shares):
        shares[name] += left // len(shares) + (number < left % len(shares))
    return shares


@dataclass(slots=True)
class _Share:
    demand: int = 0
    #: Cost of ended calls, in a budget; see BudgetTold.
    spent: int = 0
    held: int = 0
    asked: int = 0
    target: int = 0
    #: The last word to the cell: its number and amount; 0 for none.
    number: int = 0
    told: int = 0
    is_taken: bool = True
    #: The most that the cell may use, whichever of the words it has heard.
    bound: int = 0


@dataclass(slots=True)
class _Limit:
    amount: int
    is_budget: bool
    #: The use of cells that have gone.
    spent: int = 0
    is_used_up: bool = False
    shares: dict[str, _Share] = field(default_factory=dict)

    def free(self) -> int:
        return self.amount - self.spent - sum(share.bound for share in self.shares.values())

    def targets(self) -> dict[str, int]:
        """Return the shares that cells are to have."""
        if not self.is_budget:
            return fair_amounts(self.amount, {cell: share.demand for cell, share in self.shares.items()})
        uses = {cell: (share.spent + share.held, share.asked) for cell, share in self.shares.items()}
        return budget_amounts(self.amount - self.spent, uses)

    def hopeless(self) -> tuple[int, int] | None:
        """Return what cells have spent and what a call may cost that no share will have room for; None where there is
        none."""
        spent = self.spent + sum(share.spent for share in self.shares.values())
        asked = max((share.asked for share in self.shares.values()), default=0)
        return (spent, asked) if asked and spent + asked > self.amount else None


class ShareBook:
    """One instance shares all limits of one run."""

    def __init__(self, limits: Mapping[str, int], budgets: Mapping[str, int]) -> None:
        """`limits`: by name, the calls at once. `budgets`: by another name, what may be spent; what a cell has used of
        its share stays used, also when the cell ends. All are 0 or more."""
        self._limits = {name: _Limit(amount, is_budget=False) for name, amount in limits.items()}
        self._limits |= {name: _Limit(amount, is_budget=True) for name, amount in budgets.items()}
        self._handlers: dict[type, Callable[[Any], Iterator[ShareAction]]] = {
            SharerJoined: self._joined,
            SharerGone: self._gone,
            DemandTold: self._demand_told,
            BudgetTold: self._budget_told,
            ShareTaken: self._taken,
            SharesDue: self._due,
        }

    def handle(self, event: ShareEvent) -> list[ShareAction]:
        """Return what cells are to be told now that this has happened."""
        return list(self._handlers[type(event)](event))

    def check(self) -> None:
        """Raise AssertionError where a limit is passed. For tests in which calls cost what they may at most."""
        for name, limit in self._limits.items():
            assert limit.free() >= 0, f"the shares of {name} are above its limit"
            assert all(0 <= share.told <= share.bound for share in limit.shares.values()), name

    def _joined(self, event: SharerJoined) -> Iterator[SetShare]:
        for name, limit in self._limits.items():
            assert event.cell not in limit.shares, f"cell {event.cell} is there already"
            held = event.holds[name]
            assert held <= max(0, limit.free()), f"cell {event.cell} begins with more of {name} than there is"
            limit.shares[event.cell] = _Share(target=held, told=held, bound=held)
        yield from ()

    def _gone(self, event: SharerGone) -> Iterator[SetShare]:
        for name, limit in self._limits.items():
            del limit.shares[event.cell]
            if limit.is_budget:
                limit.spent += event.spent[name]
            yield from self._share_anew(name)

    def _demand_told(self, event: DemandTold) -> Iterator[SetShare]:
        """Demands count when shares are due."""
        self._limits[event.limit].shares[event.cell].demand = event.amount
        yield from ()

    def _budget_told(self, event: BudgetTold) -> Iterator[SetShare]:
        """Uses count when shares are due, too; but more than a cell may use is used at once."""
        share = self._limits[event.limit].shares[event.cell]
        share.spent, share.held, share.asked = event.spent, event.held, event.asked
        share.bound = max(share.bound, event.spent + event.held)
        yield from ()

    def _taken(self, event: ShareTaken) -> Iterator[SetShare]:
        limit = self._limits[event.limit]
        share = limit.shares[event.cell]
        # An answer to an earlier word says nothing: the cell may have heard a later one since.
        if event.number != share.number or share.is_taken:
            return
        assert event.amount <= share.bound or limit.is_budget, f"cell {event.cell} uses too much of {event.limit}"
        share.told = share.bound = event.amount
        share.is_taken = True
        yield from self._raise(event.limit)

    def _due(self, event: SharesDue) -> Iterator[ShareAction]:
        for name, limit in self._limits.items():
            if (used := limit.hopeless()) is not None and not limit.is_used_up:
                limit.is_used_up = True
                yield BudgetUsedUp(name, *used)
            unheard = {cell: share.number for cell, share in limit.shares.items() if not share.is_taken}
            yield from self._share_anew(name)
            for cell, number in unheard.items():
                share = limit.shares[cell]
                if share.number == number:
                    yield SetShare(cell, name, number, share.told)

    def _share_anew(self, name: str) -> Iterator[SetShare]:
        limit = self._limits[name]
        for cell, target in limit.targets().items():
            share = limit.shares[cell]
            share.target = target
            if target < share.told:
                yield self._tell(name, cell, target)
        yield from self._raise(name)

    def _raise(self, name: str) -> Iterator[SetShare]:
        """Raise shares that are below their targets as far as nobody else may use what is added."""
        limit = self._limits[name]
        for cell, share in limit.shares.items():
            amount = min(share.target, share.bound + limit.free())
            if amount > share.told:
                yield self._tell(name, cell, amount)

    def _tell(self, name: str, cell: str, amount: int) -> SetShare:
        share = self._limits[name].shares[cell]
        share.number += 1
        share.told, share.is_taken = amount, False
        share.bound = max(share.bound, amount)
        return SetShare(cell, name, share.number, amount)
