"""Spending outlives the process, calls wait in order until they fit, and nobody passes a limit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.execution.spending import SpendingAccounts
from sundog.ledger.charges import NO_CHARGE, Charge
from sundog.ledger.ledger import LimitRefusal, Reservation, SpendingLimits, SpendingScope
from sundog.store.spending import SpentBook
from sundog.store.store import Store

RUN = SpendingScope("run", "r")
TENANT = SpendingScope("tenant", "t")


def tokens(number: int) -> Charge:
    return Charge(number * 10, number)


def in_process(folder: Path, main: Callable[[SpendingAccounts, Store], Awaitable[None]]) -> None:
    """Do `main` as one process would, which ends well."""

    async def whole() -> None:
        store = Store(folder)
        store.open_writer()
        try:
            spending = SpendingAccounts(store, now_s=lambda: 0.0)
            await main(spending, store)
            spending.flush()
        finally:
            store.close()

    asyncio.run(whole())


async def held(spending: SpendingAccounts, number: int, *scopes: SpendingScope) -> Reservation:
    outcome = await spending.reserve(scopes or (RUN,), tokens(number))
    assert isinstance(outcome, Reservation)
    return outcome


def test_what_was_spent_is_known_after_a_restart(tmp_path: Path) -> None:
    async def first(spending: SpendingAccounts, store: Store) -> None:
        spending.open(RUN, SpendingLimits(max_tokens=100))
        spending.settle(await held(spending, 60), tokens(40))

    async def second(spending: SpendingAccounts, store: Store) -> None:
        spending.open(RUN, SpendingLimits(max_tokens=100))
        assert spending.spent(RUN) == tokens(40)
        assert isinstance(await spending.reserve([RUN], tokens(61)), LimitRefusal)
        spending.settle(await held(spending, 60), tokens(60))

    in_process(tmp_path, first)
    in_process(tmp_path, second)


def test_calls_that_never_ended_count_as_spent(tmp_path: Path) -> None:
    async def killed(spending: SpendingAccounts, store: Store) -> None:
        spending.open(RUN, SpendingLimits(max_tokens=100))
        spending.settle(await held(spending, 20), tokens(10))
        await held(spending, 50)
        # Its reservation is on the disk before the call starts; what follows of it is never written.
        other = Store(tmp_path)
        assert SpentBook(other).take_up(RUN) == tokens(60)
        assert SpentBook(other).take_up(RUN) == tokens(60), "and it counts once"
        other.close()

    in_process(tmp_path, killed)


def test_a_new_account_begins_with_what_was_spent_before_anybody_counted(tmp_path: Path) -> None:
    async def first(spending: SpendingAccounts, store: Store) -> None:
        spending.open(RUN, SpendingLimits(max_tokens=100), spent=tokens(30))

    async def second(spending: SpendingAccounts, store: Store) -> None:
        spending.open(RUN, SpendingLimits(max_tokens=100), spent=tokens(99))
        assert spending.spent(RUN) == tokens(30), "it is written, so it is no new one"

    in_process(tmp_path, first)
    in_process(tmp_path, second)


def test_without_a_limit_of_money_nothing_is_written(tmp_path: Path) -> None:
    async def main(spending: SpendingAccounts, store: Store) -> None:
        spending.open(RUN)
        spending.open(TENANT, SpendingLimits(deadline_s=9.0))
        spending.open(SpendingScope("request", "1"), SpendingLimits(max_tokens=100), is_kept=False)
        call = await held(spending, 60, RUN, TENANT, SpendingScope("request", "1"))
        spending.settle(call, tokens(50))
        spending.flush()
        await store.write()
        assert store.select("select * from spent", ()) == []
        assert spending.spent(RUN) == tokens(50)

    in_process(tmp_path, main)


def test_an_account_that_gets_a_limit_is_written_with_all_that_it_has(tmp_path: Path) -> None:
    async def first(spending: SpendingAccounts, store: Store) -> None:
        spending.open(RUN)
        spending.settle(await held(spending, 60), tokens(50))
        running = await held(spending, 5)
        spending.open(RUN, SpendingLimits(max_tokens=100))
        spending.settle(running, tokens(4))

    async def second(spending: SpendingAccounts, store: Store) -> None:
        spending.open(RUN)
        assert spending.spent(RUN) == tokens(54)
        spending.settle(await held(spending, 60), tokens(6))

    async def third(spending: SpendingAccounts, store: Store) -> None:
        spending.open(RUN)
        assert spending.spent(RUN) == tokens(60), "what had a limit once is counted on"

    for process in (first, second, third):
        in_process(tmp_path, process)


def test_a_scope_that_has_ended_leaves_nothing(tmp_path: Path) -> None:
    request, other = SpendingScope("request", "1"), SpendingScope("request", "2")

    async def main(spending: SpendingAccounts, store: Store) -> None:
        for scope in (other, request):
            spending.open(scope, SpendingLimits(max_tokens=100))
        call = await held(spending, 60, request)
        spending.settle(call, tokens(50))
        assert tuple(await asyncio.gather(spending.close(other), spending.close(request))) == (NO_CHARGE, tokens(50))
        assert store.select("select * from spent", ()) == []
        assert not spending.is_open(request)

    in_process(tmp_path, main)


Outcome = asyncio.Future[Reservation | LimitRefusal]


async def two_behind_one(spending: SpendingAccounts) -> tuple[Reservation, Outcome, Outcome]:
    """Return a call that holds nearly all, and two that wait behind it: one that is large, and one that is small."""
    spending.open(RUN, SpendingLimits(max_tokens=100))
    first = await held(spending, 90)
    large = asyncio.ensure_future(spending.reserve([RUN], tokens(60)))
    return first, large, asyncio.ensure_future(spending.reserve([RUN], tokens(5)))


def test_calls_wait_in_order_until_they_fit(tmp_path: Path) -> None:
    async def main(spending: SpendingAccounts, store: Store) -> None:
        first, large, small = await two_behind_one(spending)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not large.done()
        assert not small.done(), "the small one does not overtake"
        spending.settle(first, tokens(20))
        assert isinstance(await large, Reservation)
        assert isinstance(await small, Reservation)
        assert spending.reserved(RUN) == tokens(65)

    in_process(tmp_path, main)


def test_who_waits_is_refused_when_it_will_never_fit(tmp_path: Path) -> None:
    async def main(spending: SpendingAccounts, store: Store) -> None:
        spending.open(RUN, SpendingLimits(max_tokens=100))
        first = await held(spending, 90)
        waiting = [asyncio.ensure_future(spending.reserve([RUN], tokens(number))) for number in (60, 30, 10)]
        await asyncio.sleep(0)
        spending.settle(first, tokens(90))
        outcomes = await asyncio.gather(*waiting)
        assert [isinstance(one, LimitRefusal) for one in outcomes] == [True, True, False]

    in_process(tmp_path, main)


def test_who_does_not_wait_is_told_at_once(tmp_path: Path) -> None:
    async def main(spending: SpendingAccounts, store: Store) -> None:
        spending.open(RUN, SpendingLimits(max_tokens=100))
        await held(spending, 90)
        outcome = await spending.reserve([RUN], tokens(20), waits=False)
        assert isinstance(outcome, LimitRefusal)
        assert outcome.may_fit_later

    in_process(tmp_path, main)


def test_who_leaves_the_queue_holds_nothing_and_lets_others_by(tmp_path: Path) -> None:
    async def main(spending: SpendingAccounts, store: Store) -> None:
        first, large, small = await two_behind_one(spending)
        await asyncio.sleep(0)
        large.cancel()
        assert isinstance(await small, Reservation)
        assert spending.reserved(RUN) == tokens(95)
        # One that is cancelled in the moment in which it is let start.
        late = asyncio.ensure_future(spending.reserve([RUN], tokens(50)))
        await asyncio.sleep(0)
        spending.settle(first, NO_CHARGE)
        late.cancel()
        await asyncio.wait([late])
        assert spending.reserved(RUN) == tokens(5)

    in_process(tmp_path, main)


def test_a_larger_limit_lets_those_start_that_wait(tmp_path: Path) -> None:
    async def main(spending: SpendingAccounts, store: Store) -> None:
        spending.open(RUN, SpendingLimits(max_tokens=100))
        await held(spending, 90)
        waiting = asyncio.ensure_future(spending.reserve([RUN], tokens(20)))
        await asyncio.sleep(0)
        spending.open(RUN, SpendingLimits(max_tokens=200))
        assert isinstance(await waiting, Reservation)

    in_process(tmp_path, main)


def test_a_queue_does_not_hold_up_those_of_other_scopes(tmp_path: Path) -> None:
    async def main(spending: SpendingAccounts, store: Store) -> None:
        spending.open(RUN, SpendingLimits(max_tokens=100))
        spending.open(TENANT, SpendingLimits(max_tokens=100))
        await held(spending, 90)
        waiting = asyncio.ensure_future(spending.reserve([RUN], tokens(20)))
        await asyncio.sleep(0)
        await held(spending, 50, TENANT)
        assert not waiting.done()
        waiting.cancel()

    in_process(tmp_path, main)


CALLS = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 60), st.integers(0, 3)), max_size=25)


@pytest.mark.slow
@given(calls=CALLS, limit=st.integers(0, 300), seed=st.integers(0, 10**6))
def test_whatever_ends_when_no_limit_is_passed(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[int, int, int]], limit: int, seed: int
) -> None:
    """Calls of two scopes that begin and end in any order, some of them cancelled: what is spent stays within the
    limit at each moment, all waiting ends, and the disk has what the ledger has."""
    choice = random.Random(seed)
    folder = tmp_path_factory.mktemp("state")

    async def call(spending: SpendingAccounts, most: int, cost: int, kind: int) -> None:
        scopes = [(RUN,), (RUN, TENANT), (TENANT,), (RUN,)][kind]
        outcome = await spending.reserve(scopes, tokens(most))
        if isinstance(outcome, LimitRefusal):
            assert not outcome.may_fit_later
            return
        taken = tokens(most)
        try:
            for _ in range(choice.randrange(4)):
                await asyncio.sleep(0)
            assert (spending.spent(RUN) + spending.reserved(RUN)).num_tokens <= limit
            taken = tokens(min(cost, most))
        finally:
            spending.settle(outcome, taken)

    async def main(spending: SpendingAccounts, store: Store) -> None:
        for scope in (RUN, TENANT):
            spending.open(scope, SpendingLimits(max_tokens=limit))
        tasks = [asyncio.ensure_future(call(spending, *one)) for one in calls]
        for task in tasks:
            await asyncio.sleep(0)
            if choice.random() < 0.2:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert all(task.cancelled() or task.exception() is None for task in tasks)
        assert not any(spending.reserved(scope).num_tokens for scope in (RUN, TENANT))
        kept.update({scope: spending.spent(scope) for scope in (RUN, TENANT)})

    async def after(spending: SpendingAccounts, store: Store) -> None:
        for scope in (RUN, TENANT):
            spending.open(scope, SpendingLimits(max_tokens=limit))
            assert spending.spent(scope) == kept[scope]
            assert spending.spent(scope).num_tokens <= limit

    kept: dict[SpendingScope, Charge] = {}
    in_process(folder, main)
    in_process(folder, after)


def test_who_stops_waiting_for_the_end_of_an_account_disturbs_no_other(tmp_path: Path) -> None:
    async def main(spending: SpendingAccounts, store: Store) -> None:
        spending.open(RUN, SpendingLimits(max_tokens=100))
        spending.open(TENANT, SpendingLimits(max_tokens=100))
        reserving = asyncio.ensure_future(spending.reserve([TENANT], tokens(10)))
        closing = asyncio.ensure_future(spending.close(RUN))
        await asyncio.sleep(0)
        closing.cancel()
        assert isinstance(await reserving, Reservation)

    in_process(tmp_path, main)
