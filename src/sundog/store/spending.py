"""Spending of each scope, and what it holds for calls that run, over restarts.

Owns the tables `spent` and `budgets`. Never decides by it: the ledger does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sundog.ledger.charges import NO_CHARGE, Charge
from sundog.ledger.ledger import SpendingScope
from sundog.store.statements import StoreStatement
from sundog.store.store import Store

ADD_SPENT = StoreStatement(
    "add_spent",
    """
insert into spent values (?, ?, ?, ?, ?) on conflict (scope) do update set
    nano_usd = nano_usd + excluded.nano_usd,
    num_tokens = num_tokens + excluded.num_tokens,
    reserved_nano_usd = reserved_nano_usd + excluded.reserved_nano_usd,
    num_reserved_tokens = num_reserved_tokens + excluded.num_reserved_tokens
""",
)
SPEND_RESERVED = StoreStatement(
    "spend_reserved",
    """
update spent set
    nano_usd = nano_usd + reserved_nano_usd, reserved_nano_usd = 0,
    num_tokens = num_tokens + num_reserved_tokens, num_reserved_tokens = 0
where scope = ?
""",
)

_DROP_SPENT = StoreStatement("drop_spent", "delete from spent where scope = ?")
_DROP_BUDGET = StoreStatement("drop_budget", "delete from budgets where scope = ?")
_PUT_BUDGET = StoreStatement("put_budget", "insert or replace into budgets values (?, ?, ?)")
_DROP_OLD_SPENT = StoreStatement(
    "drop_old_spent", "delete from spent where scope in (select scope from budgets where told_at < ?)"
)
_DROP_OLD_BUDGETS = StoreStatement("drop_old_budgets", "delete from budgets where told_at < ?")


@dataclass(slots=True)
class SpendingChange:
    """An account of the store, or its change since it was written last."""

    spent: Charge = NO_CHARGE
    reserved: Charge = NO_CHARGE


class SpentBook:
    """This class keeps the accounts of a state folder. One process at a time works on the calls of a scope: whoever
    takes it up counts what was held for calls that never ended as spent, since nobody knows what they have cost.
    Several processes may have parts of a run, each an account of its own: `part_of_run` names it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def take_up(self, scope: SpendingScope) -> Charge | None:
        """Return what a scope has spent, with what was held for calls of processes that are gone; None where nothing
        was written of it. The accounts of a run's parts go into the run's own."""
        rows = self._rows(scope)
        if not rows:
            return None
        name, parts = _name(scope), [row for row in rows if row[0] != _name(scope)]
        statements: list[tuple[StoreStatement, tuple[Any, ...]]] = []
        for row in parts:
            statements += [(ADD_SPENT, (name, *_ended(row), 0, 0)), (_DROP_SPENT, (row[0],))]
        if any(row[0] == name and (row[3] or row[4]) for row in rows):
            statements.append((SPEND_RESERVED, (name,)))
        if statements:
            self._store.change(*statements)
        return sum((Charge(*_ended(row)) for row in rows), NO_CHARGE)

    def written(self, scope: SpendingScope) -> SpendingChange | None:
        """Return what is written of a scope and its parts, also while other processes work on its calls."""
        rows = self._rows(scope)
        if not rows:
            return None
        return SpendingChange(
            sum((Charge(row[1], row[2]) for row in rows), NO_CHARGE),
            sum((Charge(row[3], row[4]) for row in rows), NO_CHARGE),
        )

    def _rows(self, scope: SpendingScope) -> list[tuple[Any, ...]]:
        name = _name(scope)
        query = "select scope, nano_usd, num_tokens, reserved_nano_usd, num_reserved_tokens from spent where scope = ?"
        if scope.kind != "run":
            return list(self._store.select(query, (name,)))
        # A part's name continues its run's after a dot, and no run has a dot behind the name of another one.
        return list(self._store.select(f"{query} or (scope > ? and scope < ?)", (name, f"{name}.", f"{name}/")))

    def add(self, changes: Mapping[SpendingScope, SpendingChange]) -> asyncio.Future[None]:
        """Commit changes, all or none; they are on the disk once the future is set."""
        return self._store.write(*((ADD_SPENT, _row(scope, change)) for scope, change in changes.items()))

    def forget(self, scope: SpendingScope) -> asyncio.Future[None]:
        """Drop the account of a scope that has ended, and its budget."""
        name = (_name(scope),)
        return self._store.write((_DROP_SPENT, name), (_DROP_BUDGET, name))

    def put_budget(self, scope: SpendingScope, max_usd: float, told_at: float) -> asyncio.Future[None]:
        """Keep the limit of a scope that has it from a client; it is kept once the future is set."""
        return self._store.write((_PUT_BUDGET, (_name(scope), max_usd, told_at)))

    def budget(self, scope: SpendingScope) -> float | None:
        """Return the dollars that a client has told for a scope."""
        found = self._store.select("select max_usd from budgets where scope = ?", (_name(scope),))
        return float(found[0][0]) if found else None

    def has_budgets(self) -> bool:
        return bool(self._store.select("select 1 from budgets limit 1", ()))

    def forget_budgets(self, before: float) -> None:
        """Drop the budgets, and the accounts of their scopes, that were told last before a time in seconds since the
        epoch."""
        self._store.change((_DROP_OLD_SPENT, (before,)), (_DROP_OLD_BUDGETS, (before,)))


def part_of_run(run_id: str, name: str) -> SpendingScope:
    """Return the account of the process `name` that has a part of a run."""
    return SpendingScope("run", f"{run_id}.{name}")


def _ended(row: tuple[Any, ...]) -> tuple[int, int]:
    """Return what a row has spent once all that it holds counts as spent."""
    return row[1] + row[3], row[2] + row[4]


def _row(scope: SpendingScope, change: SpendingChange) -> tuple[str, int, int, int, int]:
    spent, reserved = change.spent, change.reserved
    return (_name(scope), spent.nano_usd, spent.num_tokens, reserved.nano_usd, reserved.num_tokens)


def _name(scope: SpendingScope) -> str:
    return f"{scope.kind}:{scope.name}"
