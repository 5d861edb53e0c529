"""The limits that the cells of a run share: what a cell tells of its use, and what the driver makes of that.

Owns both sides, and the form of what goes between them, which may be lost, late and repeated. Who gets how much is
decided in cluster.shares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from sundog.cells.engine_shares import cell_plan, share_at, shared_limits
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
from sundog.cluster.shares import ShareBook
from sundog.errors import LimitReached
from sundog.execution.pool_shares import PoolShares
from sundog.ir.physical import PhysicalPlan
from sundog.operators.base import Operator
from sundog.runtime.limits import MAX_TOKENS, MAX_USD, RunLimits
from sundog.store.spending import SpentBook, part_of_run
from sundog.store.store import Store


@dataclass(frozen=True, slots=True)
class SharesTold:
    """The use that a cell makes of its shares, now; told with each of its beats."""

    #: By pool, the calls at once of each replica that run or wait.
    demands: tuple[tuple[str, int], ...]
    #: By budget: spent, held by calls that run, and what the first one may cost that waits.
    budgets: tuple[tuple[str, int, int, int], ...]
    #: The limit, number and amount of each share that was told and is kept now.
    taken: tuple[tuple[str, int, int], ...]


class CellShares:
    """A cell's side. It obeys the last word on each limit."""

    def __init__(self, pools: PoolShares, limits: RunLimits, first: Mapping[str, int]) -> None:
        """`first`: the shares of the cell's plan."""
        self._pools = pools
        self._limits = limits
        self._shared = first.keys()
        self._budgets = {name: amount for name, amount in first.items() if name in (MAX_USD, MAX_TOKENS)}
        self._heard: dict[str, SetShare] = {}
        self._unanswered: set[str] = set()

    def told(self) -> SharesTold:
        """Return what the driver is to hear with the next beat. A lower share is answered once no more than that
        is used; of a budget, with what is used."""
        use = self._limits.use()
        taken = tuple(self._taken(use))
        self._unanswered.difference_update(limit for limit, _, _ in taken)
        demands = {name: amount for name, amount in self._pools.demands().items() if name in self._shared}
        return SharesTold(tuple(sorted(demands.items())), tuple((name, *of) for name, of in use.items()), taken)

    def hear(self, word: SetShare) -> None:
        """Take up a share. An earlier word than the last one says nothing; the last one is answered again."""
        last = self._heard.get(word.limit)
        if last is not None and word.number < last.number:
            return
        self._unanswered.add(word.limit)
        if last is not None and word.number == last.number:
            return
        self._heard[word.limit] = word
        if word.limit in (MAX_USD, MAX_TOKENS):
            self._budgets[word.limit] = word.amount
            self._limits.share(self._budgets)
        else:
            self._pools.share(word.limit, word.amount)

    def let_go(self) -> None:
        """Let no call wait for a larger budget any more: the cell ends, and nobody would give it one."""
        self._limits.let_go()

    def _taken(self, use: Mapping[str, tuple[int, int, int]]) -> Iterator[tuple[str, int, int]]:
        for limit in sorted(self._unanswered):
            word = self._heard[limit]
            if limit in use:
                spent, held, _ = use[limit]
                yield limit, word.number, max(word.amount, spent + held)
            elif self._pools.num_running(limit) <= word.amount:
                yield limit, word.number, word.amount


class RunShares:
    """The driver's side. `plan`: the whole one. `budgets`: what is left of each, as RunLimits.begin_shared says."""

    def __init__(
        self,
        plan: PhysicalPlan,
        operators: Mapping[str, Operator],
        limits: RunLimits,
        budgets: Mapping[str, int],
        num_cells: int,
    ) -> None:
        """Raise ConfigError where there are more cells than an engine has places."""
        self._plan = plan
        self._operators = operators
        self._limits = limits
        self._num_cells = num_cells
        self._budgets = dict(budgets)
        self._amounts = shared_limits(plan, operators, num_cells)
        self._places: set[int] = set()
        self._book = ShareBook(self._amounts, budgets)

    def join(self, cell: str, place: int) -> PhysicalPlan:
        """Return the plan of a new cell, with its first shares. The first cell of each place has that place's; one that
        takes the place of another begins with nothing, and is told its shares as all others are."""
        plan = cell_plan(self._plan, self._operators, place, self._num_cells)
        shares = dict.fromkeys(self._amounts | self._budgets, 0)
        if place not in self._places:
            shares = {
                name: share_at(amount, place, self._num_cells)
                for name, amount in (self._amounts | self._budgets).items()
            }
        self._places.add(place)
        self._book.handle(SharerJoined(cell, shares))
        return replace(plan, shares=shares)

    def hear(self, cell: str, told: SharesTold) -> list[SetShare]:
        """Take up what a cell has told, and return words to cells."""
        events: list[ShareEvent] = [
            *(DemandTold(cell, limit, amount) for limit, amount in told.demands),
            *(BudgetTold(cell, *use) for use in told.budgets),
            *(ShareTaken(cell, *taken) for taken in told.taken),
        ]
        return _words(action for event in events for action in self._book.handle(event))

    def gone(self, cell: str, store: Store, run_id: str) -> list[SetShare]:
        """Take back the shares of a cell of which nothing runs any more, and return words to the others. `store` has
        read the cell's log to its end."""
        written = SpentBook(store).written(part_of_run(run_id, cell))
        spent = {MAX_USD: 0, MAX_TOKENS: 0}
        if written is not None:
            charge = written.spent + written.reserved
            spent = {MAX_USD: charge.nano_usd, MAX_TOKENS: charge.num_tokens}
        return _words(self._book.handle(SharerGone(cell, spent)))

    def due(self) -> tuple[list[SetShare], LimitReached | None]:
        """Share anew, twice a second. Return words to cells, and the error that ends the run where a budget has nothing
        left for some cell's next call; said once for each budget."""
        actions = self._book.handle(SharesDue())
        reached = None
        for action in actions:
            if isinstance(action, BudgetUsedUp):
                reached = self._limits.used_up(action.limit, action.spent, action.asked)
        return _words(actions), reached


def _words(actions: Iterable[ShareAction]) -> list[SetShare]:
    """Return the last word on each limit to each cell, in their order: the others say nothing any more."""
    found: dict[tuple[str, str], SetShare] = {}
    for action in actions:
        if isinstance(action, SetShare):
            found.pop((action.cell, action.limit), None)
            found[action.cell, action.limit] = action
    return list(found.values())
