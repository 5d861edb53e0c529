"""The payment of one request of the core that comes alone: its money is held before it asks for a place.

Owns the order of both: whoever waits for money keeps no place that others could have. Never decides what fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from sundog.errors import RunStopped
from sundog.execution.calls.charging import limit_reached, paid_attempt
from sundog.execution.spending import SpendingAccounts
from sundog.host.attempt import RunAttempt, Success
from sundog.host.driver import Driver
from sundog.ledger.charges import Charge, Tariff
from sundog.ledger.ledger import LimitRefusal, Reservation, SpendingScope
from sundog.sched.events import RequestArrived, Submit

T = TypeVar("T")


class Payment:
    """This class pays for the attempts of one request. `most`: what an attempt can cost at most."""

    __slots__ = ("_accounts", "_held", "_most", "_payers", "_tariff")

    def __init__(
        self, accounts: SpendingAccounts, payers: Sequence[SpendingScope], tariff: Tariff, most: Charge
    ) -> None:
        self._accounts = accounts
        self._payers = payers
        self._tariff = tariff
        self._most = most
        #: The reservation of the first attempt, until that begins.
        self._held: Reservation | None = None

    async def run(self, driver: Driver, arrived: RequestArrived, attempt: RunAttempt[T]) -> T:
        """Return what `driver.run` does, once the request fits into all limits; LimitReached where it never will."""
        self._held = await self._reserved()
        try:
            return await driver.run(arrived, partial(self._attempted, driver, attempt))
        finally:
            if self._held is not None:
                self._accounts.release(self._held)

    async def _attempted(self, driver: Driver, attempt: RunAttempt[T], submit: Submit) -> Success[T]:
        reservation, self._held = self._held, None
        if reservation is None:
            # Another attempt is a call of its own.
            reservation = await self._reserved()
            if driver.is_stopping:
                self._accounts.release(reservation)
                raise RunStopped("the server is stopping")
        return await paid_attempt(self._accounts, attempt, submit, reservation, self._tariff)

    async def _reserved(self) -> Reservation:
        outcome = await self._accounts.reserve(self._payers, self._most)
        if isinstance(outcome, LimitRefusal):
            raise limit_reached(outcome)
        return outcome
