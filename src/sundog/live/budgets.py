"""The budgets of programs: told with any request, kept until the program ends.

Owns which programs have one, over restarts. Never decides what fits: the ledger does.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict

from sundog.ledger.ledger import SpendingLimits, SpendingScope
from sundog.live.accounts import LiveAccounts
from sundog.store.spending import SpentBook
from sundog.store.store import Store

MAX_PROGRAMS = 100_000
KEPT_S = 30 * 86_400.0
"""A budget that was told so long ago is forgotten when a server starts."""


class ProgramBudgets:
    """This class remembers the budgets of the programs that came last; the others are on the disk."""

    def __init__(self, store: Store, accounts: LiveAccounts, max_programs: int = MAX_PROGRAMS) -> None:
        self._book = SpentBook(store)
        self._accounts = accounts
        self._max_programs = max_programs
        #: By program, None for one without a budget.
        self._budgets: OrderedDict[SpendingScope, float | None] = OrderedDict()
        #: Requests of programs with a budget that have not ended.
        self._num_running: Counter[SpendingScope] = Counter()
        #: Programs that end with their last request.
        self._ending: set[SpendingScope] = set()
        #: Programs that have ended, until nothing of them is on the disk any more.
        self._forgetting: dict[SpendingScope, asyncio.Event] = {}
        #: Some program may have a budget.
        self.are_any = self._book.has_budgets()

    async def enter(self, name: str, told_usd: float | None) -> tuple[SpendingScope, ...]:
        """Return the account of a program that has a budget, which is `told_usd` from now on where that is told. For
        each account that was given, `leave` must follow."""
        if not name or (told_usd is None and not self.are_any):
            return ()
        scope = SpendingScope("program", name)
        while (forgetting := self._forgetting.get(scope)) is not None:
            await forgetting.wait()
        max_usd = self._known(scope) if told_usd is None else told_usd
        if max_usd is not None and self._budgets.get(scope) != max_usd:
            self._accounts.open(scope, SpendingLimits(max_usd))
            self.are_any = True
        is_new = told_usd is not None and self._budgets.get(scope) != told_usd
        self._remember(scope, max_usd)
        if max_usd is None:
            return ()
        # It counts from now on: the program may be ended, or others may come, before the budget is on the disk.
        self._num_running[scope] += 1
        if is_new:
            try:
                await self._book.put_budget(scope, max_usd, time.time())
            except BaseException:
                await self.leave(scope)
                raise
        return (scope,)

    async def leave(self, scope: SpendingScope) -> None:
        """A request of a program has ended."""
        self._num_running[scope] -= 1
        if not self._num_running[scope]:
            del self._num_running[scope]
            if scope in self._ending:
                self._ending.discard(scope)
                await self._forget(scope)

    async def end(self, name: str) -> None:
        """Forget a program that has ended, once its last request has."""
        scope = SpendingScope("program", name)
        if not self.are_any or scope in self._forgetting or self._known(scope) is None:
            return
        if self._num_running[scope]:
            self._ending.add(scope)
        else:
            await self._forget(scope)

    def forget_old(self) -> None:
        """Drop the budgets, and what was spent of them, that nobody has told for KEPT_S."""
        if self.are_any:
            self._book.forget_budgets(time.time() - KEPT_S)

    async def _forget(self, scope: SpendingScope) -> None:
        self._budgets.pop(scope, None)
        self._forgetting[scope] = asyncio.Event()
        try:
            if self._accounts.paying((scope,)):
                await self._accounts.close(scope)
            else:
                await self._book.forget(scope)
        finally:
            self._forgetting.pop(scope).set()

    def _known(self, scope: SpendingScope) -> float | None:
        return self._budgets[scope] if scope in self._budgets else self._book.budget(scope)

    def _remember(self, scope: SpendingScope, max_usd: float | None) -> None:
        self._budgets[scope] = max_usd
        self._budgets.move_to_end(scope)
        if len(self._budgets) > self._max_programs:
            oldest = next(iter(self._budgets))
            if not self._num_running[oldest]:
                del self._budgets[oldest]
                self._accounts.leave(oldest)
