"""The payment of one request of the core that comes alone: its money is held before it asks for a place.

Owns the order of both: whoever waits for money keeps no place that others could have. Never decides what fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from sundog.engines.base import Usage
from sundog.errors import CallError, LimitReached, RunStopped
from sundog.execution.calls.guard import checked_usage
from sundog.execution.spending import SpendingAccounts
from sundog.host.attempt import RunAttempt, Success
from sundog.host.driver import Driver
from sundog.ledger.charges import NO_CHARGE, Charge, Tariff
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
        try:
            await self.hold()
            return await driver.run(arrived, partial(self._attempted, driver, attempt))
        finally:
            self.let_go()

    async def hold(self) -> None:
        """Return when the request fits into all limits, and hold the money of its first attempt; LimitReached where it
        never will. `let_go`, or `run`, must follow."""
        if self._held is None:
            self._held = await self._reserved()

    def let_go(self) -> None:
        """Give back what is held for an attempt that has not begun."""
        if self._held is not None:
            held, self._held = self._held, None
            self._accounts.release(held)

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


async def paid_attempt(
    accounts: SpendingAccounts,
    attempt: RunAttempt[T],
    submit: Submit,
    reservation: Reservation,
    tariff: Tariff | None,
) -> Success[T]:
    """Return what an attempt gives, with its reservation settled however it ends."""
    # Whatever ends without a word may have been computed, and counts whole.
    cost = reservation.charge
    try:
        success = await attempt(submit)
        # Where no call is answered and tokens are told, the request was wrong, and these are all that it took.
        usage = success.usage
        if usage is not None and not usage.is_estimated and success.num_answered in (0, success.num_calls):
            cost = _charge(tariff, usage)
        return success
    except CallError as error:
        if error.is_refused:
            cost = NO_CHARGE
        elif error.usage is not None:
            cost = _charge(tariff, checked_usage(error.usage))
        raise
    finally:
        accounts.settle(reservation, cost)


def limit_reached(refusal: LimitRefusal) -> LimitReached:
    """Return the error of a call that a limit does not let start."""
    hint = "ask with a larger limit"
    if refusal.scope.kind == "run":
        option = f"--{refusal.limit.replace('_', '-')}"
        hint = f"the same command with a larger {option}, or a call with a larger {refusal.limit}, continues the run"
    reached = LimitReached(str(refusal), hint=hint)
    reached.refusal = refusal
    return reached


def _charge(tariff: Tariff | None, usage: Usage) -> Charge:
    if tariff is None:
        return NO_CHARGE
    return tariff.charge(usage.num_prompt_tokens, usage.num_output_tokens, usage.num_cached_tokens or 0)
