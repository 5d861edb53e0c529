"""The budgets of programs: they end with their program, and no request of it is left without an account."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

from sundog.live.accounts import LiveAccounts
from sundog.live.budgets import ProgramBudgets
from sundog.store.store import Store


def test_a_program_that_ends_while_its_budget_is_written_ends_with_its_request(tmp_path: Path) -> None:
    async def test(store: Store) -> None:
        store.open_writer()
        accounts = LiveAccounts(store, lambda: None)
        budgets = ProgramBudgets(store, accounts)
        entering = asyncio.ensure_future(budgets.enter("/one", 2.0))
        await asyncio.sleep(0)
        await budgets.end("/one")
        (scope,) = await entering
        assert accounts.paying((scope,)) == (scope,)
        await budgets.leave(scope)
        assert accounts.paying((scope,)) == ()

    with closing(Store(tmp_path)) as store:
        asyncio.run(test(store))
