"""The budgets of programs: they end with their program, and no request of it is left without an account."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

from sundog.live.accounts import LiveAccounts
from sundog.live.budgets import ProgramBudgets
from sundog.store.store import Store


def in_process(folder: Path, test: Callable[[ProgramBudgets, LiveAccounts], Awaitable[None]]) -> None:
    async def whole(store: Store) -> None:
        store.open_writer()
        accounts = LiveAccounts(store, lambda: None)
        await test(ProgramBudgets(store, accounts), accounts)

    with closing(Store(folder)) as store:
        asyncio.run(whole(store))


def test_a_program_that_ends_while_its_budget_is_written_ends_with_its_request(tmp_path: Path) -> None:
    async def test(budgets: ProgramBudgets, accounts: LiveAccounts) -> None:
        entering = asyncio.ensure_future(budgets.enter("/one", 2.0))
        await asyncio.sleep(0)
        await budgets.end("/one")
        (scope,) = await entering
        assert accounts.paying((scope,)) == (scope,)
        await budgets.leave(scope)
        assert accounts.paying((scope,)) == ()

    in_process(tmp_path, test)


def test_a_program_that_comes_while_the_last_one_of_its_name_is_forgotten_is_a_new_one(tmp_path: Path) -> None:
    async def test(budgets: ProgramBudgets, accounts: LiveAccounts) -> None:
        (scope,) = await budgets.enter("/one", 2.0)
        await budgets.leave(scope)
        ending = asyncio.ensure_future(budgets.end("/one"))
        await asyncio.sleep(0)
        assert await budgets.enter("/one", None) == (), "nobody has told it a budget"
        await ending
        assert await budgets.enter("/one", 3.0) == (scope,)
        assert accounts.spending.limits(scope).max_usd == 3.0

    in_process(tmp_path, test)
