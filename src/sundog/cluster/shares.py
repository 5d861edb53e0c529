"""The book of shares of a run's driver: limits that hold for the whole run, divided among cells by their demand.

Owns the amounts that each cell may use. The sum of what cells may use is never above a limit, whatever is lost or late:
a share is lowered at its cell, which says so, before another one is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sundog.cluster.share_events import (
    DemandTold,
    LimitSet,
    SetShare,
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


@dataclass(slots=True)
class _Share:
    demand: int = 0
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
    shares: dict[str, _Share] = field(default_factory=dict)

    def free(self) -> int:
        return self.amount - self.spent - sum(share.bound for share in self.shares.values())


class ShareBook:
    """One instance shares all limits of one run."""

    def __init__(self) -> None:
        self._limits: dict[str, _Limit] = {}
        self._cells: list[str] = []
        self._handlers: dict[type, Callable[[Any], Iterator[SetShare]]] = {
            LimitSet: self._limit_set,
            SharerJoined: self._joined,
            SharerGone: self._gone,
            DemandTold: self._demand_told,
            ShareTaken: self._taken,
            SharesDue: self._due,
        }

    def handle(self, event: ShareEvent) -> list[SetShare]:
        """Return what cells are to be told now that this has happened. Words of cells that have gone say nothing."""
        return list(self._handlers[type(event)](event))

    def check(self) -> None:
        """Raise AssertionError where a limit is passed. For tests."""
        for name, limit in self._limits.items():
            assert limit.free() >= 0, f"the shares of {name} are above its limit"
            assert all(0 <= share.told <= share.bound for share in limit.shares.values()), name

    def _limit_set(self, event: LimitSet) -> Iterator[SetShare]:
        assert event.limit not in self._limits, f"limit {event.limit} is set already"
        shares = {cell: _Share() for cell in self._cells}
        self._limits[event.limit] = _Limit(event.amount, event.is_budget, shares=shares)
        yield from self._share_anew(event.limit)

    def _joined(self, event: SharerJoined) -> Iterator[SetShare]:
        assert event.cell not in self._cells, f"cell {event.cell} is there already"
        self._cells.append(event.cell)
        for name, limit in self._limits.items():
            limit.shares[event.cell] = _Share()
            yield from self._share_anew(name)

    def _gone(self, event: SharerGone) -> Iterator[SetShare]:
        if event.cell not in self._cells:
            return
        self._cells.remove(event.cell)
        spent = dict(event.spent)
        for name, limit in self._limits.items():
            share = limit.shares.pop(event.cell)
            if limit.is_budget:
                limit.spent += min(share.bound, spent.get(name, share.bound))
            yield from self._share_anew(name)

    def _demand_told(self, event: DemandTold) -> Iterator[SetShare]:
        """Demands count when shares are due."""
        if event.cell in self._cells:
            self._limits[event.limit].shares[event.cell].demand = event.amount
        yield from ()

    def _taken(self, event: ShareTaken) -> Iterator[SetShare]:
        limit = self._limits[event.limit]
        share = limit.shares.get(event.cell)
        # An answer to an earlier word says nothing: the cell may have heard a later one since.
        if share is None or event.number != share.number or share.is_taken:
            return
        assert event.amount <= share.bound, f"cell {event.cell} has used more of {event.limit} than it may"
        share.told = share.bound = event.amount
        share.is_taken = True
        yield from self._raise(event.limit)

    def _due(self, event: SharesDue) -> Iterator[SetShare]:
        for name, limit in self._limits.items():
            unheard = {cell: share.number for cell, share in limit.shares.items() if not share.is_taken}
            yield from self._share_anew(name)
            for cell, number in unheard.items():
                share = limit.shares[cell]
                if share.number == number:
                    yield SetShare(cell, name, number, share.told)

    def _share_anew(self, name: str) -> Iterator[SetShare]:
        limit = self._limits[name]
        demands = {cell: share.demand for cell, share in limit.shares.items()}
        for cell, target in fair_amounts(limit.amount - limit.spent, demands).items():
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
