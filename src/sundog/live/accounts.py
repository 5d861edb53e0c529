"""The accounts of a live host: of keys, tenants and requests, opened when somebody with limits first asks.

Owns which of them are open, and which pay. What fits is the ledger's affair, and the limits of keys those of access.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from sundog.access.api_keys import APIKeys
from sundog.errors import SundogError, UserError
from sundog.execution.calls.charging import bounds_calls
from sundog.execution.calls.payment import Payment
from sundog.execution.spending import SpendingAccounts
from sundog.ledger.charges import Charge, Tariff
from sundog.ledger.ledger import NO_LIMITS, SpendingLimits, SpendingScope
from sundog.store.spending import SpentBook
from sundog.store.store import Store

Limited = tuple[SpendingScope, SpendingLimits]


class AccountsHeld(SundogError):
    """Raised where another process works on the accounts of the state folder; caught by the doors."""


class LiveAccounts:
    """This class opens accounts. Without limits anywhere it writes nothing, and nobody pays."""

    def __init__(self, store: Store, lock: Callable[[], None]) -> None:
        """`lock`: keeps other processes off the accounts that outlive this one; UserError where one works on them."""
        #: The accounts that calls are paid from.
        self.spending = SpendingAccounts(store)
        self._book = SpentBook(store)
        self._keys = APIKeys(store)
        self._lock: Callable[[], None] | None = lock
        #: The limits of keys and tenants that have asked, as they were told last.
        self._limits: dict[SpendingScope, SpendingLimits] = {}
        self._paying: set[SpendingScope] = set()

    def of(self, limited: Iterable[Limited]) -> tuple[SpendingScope, ...]:
        """Return those who pay of a key and its tenant, with these limits from now on: who has limits, or had some.
        AccountsHeld where another process counts what they spend."""
        return tuple([scope for scope, limits in limited if self._pays(scope, limits)])

    def of_key(self, key_id: str, tenant: str) -> tuple[SpendingScope, ...]:
        """Return the accounts of a key and its tenant, known by their names; each pays as long as it has limits."""
        key, owner = SpendingScope("key", key_id), SpendingScope("tenant", tenant)
        if key not in self._limits or owner not in self._limits:
            self.of(self._keys.limits_of(key_id, tenant))
        return key, owner

    def paying(self, scopes: Iterable[SpendingScope]) -> tuple[SpendingScope, ...]:
        """Return those of some scopes who pay now."""
        return tuple([scope for scope in scopes if scope in self._paying])

    def open(self, scope: SpendingScope, limits: SpendingLimits, *, is_kept: bool = True) -> None:
        """Open the account of a request or a program, or give it other limits. One that `is_kept` outlives this
        process."""
        if is_kept and scope.kind != "request":
            self._take()
        self.spending.open(scope, limits, is_kept=is_kept)
        self._paying.add(scope)

    async def close(self, scope: SpendingScope) -> None:
        """Forget an account of a request or a program that has ended, if there is one."""
        if scope in self._paying:
            self._paying.discard(scope)
            await self.spending.close(scope)

    def leave(self, scope: SpendingScope) -> None:
        """Forget an account in this process; it is kept on the disk. No call of it may run or wait."""
        if scope in self._paying:
            self._paying.discard(scope)
            self.spending.leave(scope)

    def bounds(self, payers: Iterable[SpendingScope], tariff: Tariff) -> bool:
        """Return whether the limits of payers need to know what a call costs at most."""
        return any(bounds_calls(self.spending.limits(payer), tariff) for payer in payers)

    def payment(self, payers: Sequence[SpendingScope], tariff: Tariff, most: Charge) -> Payment:
        """Return what pays for one call of a model, that costs `most` at most."""
        return Payment(self.spending, payers, tariff, most)

    def look_for_changes(self) -> None:
        """Give tenants the limits that another process has set."""
        tenants = [scope for scope in self._limits if scope.kind == "tenant"]
        if tenants:
            found = self._keys.tenant_limits()
            for scope in tenants:
                # Where another process counts, the doors refuse the keys of the tenant, until this one may.
                with suppress(AccountsHeld):
                    self.of([(scope, found.get(scope.name, NO_LIMITS))])

    def _pays(self, scope: SpendingScope, limits: SpendingLimits) -> bool:
        if self._limits.get(scope) != limits:
            # What had limits is counted on without any: they may come again.
            if limits.are_of_money or scope in self._paying or self._book.written(scope) is not None:
                self.open(scope, limits)
            self._limits[scope] = limits
        return scope in self._paying

    def _take(self) -> None:
        if self._lock is not None:
            try:
                self._lock()
            except UserError as error:
                what = "another process counts what is spent with the keys of this state folder"
                raise AccountsHeld(what, hint="serve with one process for each state folder") from error
            self._lock = None
