"""The accounts that calls are paid from: what each has spent, what is reserved, and whether another call fits.

Owns the arithmetic of limits. Never waits, reads a clock or writes anything down: time travels in arguments, and
execution.spending keeps what was spent over restarts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal, NamedTuple

from sundog.errors import ConfigError
from sundog.ledger.charges import NO_CHARGE, Charge, nano_usd_of, shown_usd

ScopeKind = Literal["run", "tenant", "key", "program", "request"]
LimitName = Literal["max_usd", "max_tokens", "deadline"]


class SpendingScope(NamedTuple):
    """The payer of a call, one of several: a run, a tenant, a key, a program, a request."""

    kind: ScopeKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'"


@dataclass(frozen=True, slots=True)
class SpendingLimits:
    """The limits of one scope, None for no limit."""

    max_usd: float | None = None
    #: Tokens of prompts and answers together.
    max_tokens: int | None = None
    #: No call starts from then on, on the clock of those who reserve.
    deadline_s: float | None = None
    #: Larger ones of money may follow, so that a call waits for them which does not fit.
    may_grow: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no limit; ConfigError."""
        if self.max_usd is not None and not 0 <= self.max_usd < math.inf:
            raise ConfigError(f"max_usd cannot be {self.max_usd}", hint="write a number of dollars, as 2.50")
        if self.max_tokens is not None and self.max_tokens < 0:
            raise ConfigError(f"max_tokens cannot be {self.max_tokens}", hint="write a number of tokens, as 1000000")

    @property
    def are_of_money(self) -> bool:
        """Return whether dollars or tokens are limited."""
        return self.max_usd is not None or self.max_tokens is not None


NO_LIMITS = SpendingLimits()


class _Account:
    """The books of one scope: its limits, what it has spent and what it has reserved."""

    __slots__ = ("limits", "max_nano_usd", "reserved", "scope", "spent")

    def __init__(self, scope: SpendingScope, limits: SpendingLimits, spent: Charge) -> None:
        self.scope = scope
        self.spent = spent
        self.reserved = NO_CHARGE
        self.limit(limits)

    def limit(self, limits: SpendingLimits) -> None:
        self.limits = limits
        self.max_nano_usd = None if limits.max_usd is None else nano_usd_of(limits.max_usd)

    def refusals(self, charge: Charge, now_s: float) -> Iterator[LimitRefusal]:
        """Yield each limit that does not let a call of `charge` start. What costs nothing passes no limit of money."""
        limits, held = self.limits, self.spent + self.reserved + charge
        surely = self.spent + charge
        if limits.deadline_s is not None and now_s >= limits.deadline_s:
            yield self._refusal("deadline", charge, now_s, may_fit_later=False)
        if self.max_nano_usd is not None and charge.nano_usd and held.nano_usd > self.max_nano_usd:
            yield self._refusal(
                "max_usd", charge, now_s, may_fit_later=limits.may_grow or surely.nano_usd <= self.max_nano_usd
            )
        if limits.max_tokens is not None and charge.num_tokens and held.num_tokens > limits.max_tokens:
            yield self._refusal(
                "max_tokens", charge, now_s, may_fit_later=limits.may_grow or surely.num_tokens <= limits.max_tokens
            )

    def _refusal(self, limit: LimitName, charge: Charge, now_s: float, *, may_fit_later: bool) -> LimitRefusal:
        facts = (self.limits, self.spent, self.reserved, charge, now_s)
        return LimitRefusal(self.scope, limit, *facts, may_fit_later=may_fit_later)


@dataclass(eq=False, slots=True)
class Reservation:
    """The most that one call may cost, held in all accounts that it is paid from until it is settled or released."""

    charge: Charge
    accounts: tuple[_Account, ...] = field(repr=False)
    is_open: bool = True

    @property
    def scopes(self) -> tuple[SpendingScope, ...]:
        return tuple(account.scope for account in self.accounts)


@dataclass(frozen=True, slots=True)
class LimitRefusal:
    """The reason why a call was not let start, as `str`; with its parts for those who answer in a form of their own."""

    scope: SpendingScope
    limit: LimitName
    limits: SpendingLimits
    spent: Charge
    #: Held by calls that have not ended.
    reserved: Charge
    #: The most that the refused call may cost.
    asked: Charge
    now_s: float
    #: The call fits once calls that run have cost less than what they reserved, or the limit has grown.
    may_fit_later: bool

    def __str__(self) -> str:
        limits = self.limits
        if self.limit == "deadline":
            return f"the deadline of the {self.scope} has passed"
        charges = (self.spent, self.reserved, self.asked)
        if self.limit == "max_usd":
            assert limits.max_usd is not None, "it refused"
            numbers = (nano_usd_of(limits.max_usd), *(charge.nano_usd for charge in charges))
            allowed, spent, reserved, asked = map(shown_usd, numbers)
        else:
            numbers = (limits.max_tokens or 0, *(charge.num_tokens for charge in charges))
            allowed, spent, reserved, asked = (f"{number:,}" for number in numbers)
        held = f"spent {spent}, reserved {reserved}"
        return f"{self.limit} of the {self.scope} is {allowed}: {held}, and the call may take {asked}"


class Ledger:
    """This class holds the accounts of all scopes of one process. A call is paid from several at once: it starts when
    it fits into the limits of each, and `spent` of none passes its limit while calls cost at most what they reserved.

    >>> ledger, tenant = Ledger(), SpendingScope("tenant", "acme")
    >>> ledger.open(tenant, SpendingLimits(max_tokens=1000), spent=Charge(num_tokens=300))
    >>> call = ledger.reserve([tenant], Charge(num_tokens=600), now_s=0.0)
    >>> print(ledger.reserve([tenant], Charge(num_tokens=200), now_s=0.0))
    max_tokens of the tenant 'acme' is 1,000: spent 300, reserved 600, and the call may take 200
    >>> ledger.settle(call, Charge(num_tokens=150))
    >>> ledger.spent(tenant), ledger.reserved(tenant)
    (Charge(nano_usd=0, num_tokens=450), Charge(nano_usd=0, num_tokens=0))
    """

    def __init__(self) -> None:
        self._accounts: dict[SpendingScope, _Account] = {}

    def open(self, scope: SpendingScope, limits: SpendingLimits = NO_LIMITS, spent: Charge = NO_CHARGE) -> None:
        """Open an account that has spent so much before. One that is open gets the new limits and keeps what it has
        spent since."""
        account = self._accounts.get(scope)
        if account is None:
            self._accounts[scope] = _Account(scope, limits, spent)
        else:
            account.limit(limits)

    def close(self, scope: SpendingScope) -> Charge:
        """Forget an account, and return what it has spent. Calls that run may be settled all the same."""
        return self._accounts.pop(scope).spent

    def is_open(self, scope: SpendingScope) -> bool:
        return scope in self._accounts

    def limits(self, scope: SpendingScope) -> SpendingLimits:
        return self._accounts[scope].limits

    def spent(self, scope: SpendingScope) -> Charge:
        return self._accounts[scope].spent

    def reserved(self, scope: SpendingScope) -> Charge:
        return self._accounts[scope].reserved

    def reserve(self, scopes: Iterable[SpendingScope], charge: Charge, now_s: float) -> Reservation | LimitRefusal:
        """Hold `charge` in the open accounts of `scopes`, or in none of them, and then say which limit it would pass:
        one that no later moment helps with, where there is such a one."""
        accounts = tuple(self._accounts[scope] for scope in scopes)
        refusals = [refusal for account in accounts for refusal in account.refusals(charge, now_s)]
        if refusals:
            return min(refusals, key=attrgetter("may_fit_later"))
        for account in accounts:
            account.reserved += charge
        return Reservation(charge, accounts)

    def settle(self, reservation: Reservation, charge: Charge) -> None:
        """Take up what a call has cost in place of what was reserved for it."""
        _end(reservation)
        for account in reservation.accounts:
            account.reserved -= reservation.charge
            account.spent += charge

    def release(self, reservation: Reservation) -> None:
        """Give back what was reserved for a call that has cost nothing."""
        self.settle(reservation, NO_CHARGE)


def _end(reservation: Reservation) -> None:
    assert reservation.is_open, "a call is settled or released once"
    reservation.is_open = False
