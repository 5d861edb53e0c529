"""The ledger of one process with its memory on the disk: calls wait until they fit, or hear why they never will.

Owns waiting, and when an account is written. Never decides what fits: sundog.ledger does.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from sundog.ledger.charges import NO_CHARGE, Charge
from sundog.ledger.ledger import NO_LIMITS, Ledger, LimitRefusal, Reservation, SpendingLimits, SpendingScope
from sundog.store.spending import SpendingChange, SpentBook
from sundog.store.store import Store


@dataclass(slots=True)
class _Waiting:
    charge: Charge
    answer: asyncio.Future[Reservation | LimitRefusal]


class SpendingAccounts:
    """This class asks the ledger for calls of one process, batch or live. `now_s`: the clock of deadlines.

    A host opens the scopes that have limits, and closes those that end, as a request does. Around each call it asks:

        spending = SpendingAccounts(store)
        spending.open(SpendingScope("tenant", "acme"), SpendingLimits(max_usd=20.0))
        ...
        outcome = await spending.reserve([tenant, request], tariff.most(num_prompt_tokens, max_tokens))
        if isinstance(outcome, LimitRefusal):
            ...  # answer 429 with str(outcome)
        # make the call, then
        spending.settle(outcome, tariff.charge(num_prompt_tokens, num_output_tokens, num_cached_tokens))

    Whoever fails to settle a call, as a process that is killed, has spent all that was reserved for it.
    """

    def __init__(self, store: Store, now_s: Callable[[], float] = time.time) -> None:
        self._book = SpentBook(store)
        self._now_s = now_s
        self._ledger = Ledger()
        #: The scopes whose accounts are written.
        self._written: set[SpendingScope] = set()
        self._changes: dict[SpendingScope, SpendingChange] = {}
        self._next_write: asyncio.Future[None] | None = None
        self._last_write: asyncio.Future[None] | None = None
        #: By the scopes of a call, those that wait until others have ended, in their order.
        self._waiting: dict[tuple[SpendingScope, ...], deque[_Waiting]] = {}

    def open(
        self,
        scope: SpendingScope,
        limits: SpendingLimits = NO_LIMITS,
        *,
        is_kept: bool = True,
        is_counted: bool = False,
        spent: Charge = NO_CHARGE,
    ) -> None:
        """Open an account, or give one that is open other limits. One that `is_kept` goes on where it stood when a
        process opened it before; `spent` is what a new one begins with. Without limits of money, and where it had none
        before, nothing of it is written unless it `is_counted`."""
        if not self._ledger.is_open(scope):
            before = self._book.take_up(scope) if is_kept else None
            if before is not None:
                self._written.add(scope)
            self._ledger.open(scope, limits, spent if before is None else before)
        else:
            self._ledger.open(scope, limits)
        if is_kept and (limits.are_of_money or is_counted) and scope not in self._written:
            self._written.add(scope)
            self._change((scope,), self._ledger.spent(scope), self._ledger.reserved(scope))
        self._wake((scope,))

    async def close(self, scope: SpendingScope) -> Charge:
        """Forget an account for good, and return what it has spent. No call of it may run or wait."""
        spent = self._ledger.close(scope)
        for payers in [payers for payers in self._waiting if scope in payers]:
            # What was cancelled may not have heard of it yet.
            for one in self._waiting.pop(payers):
                one.answer.cancel()
        if scope in self._written:
            self._written.discard(scope)
            # A batch of the writer keeps no order between statements. Others wait for the same writes.
            for written in filter(None, (self._next_write, self._last_write)):
                await asyncio.shield(written)
            await self._book.forget(scope)
        return spent

    def leave(self, scope: SpendingScope) -> None:
        """Forget an account in this process; what it has spent is written. No call of it may run or wait."""
        self._ledger.close(scope)
        self._written.discard(scope)

    def is_open(self, scope: SpendingScope) -> bool:
        return self._ledger.is_open(scope)

    def limits(self, scope: SpendingScope) -> SpendingLimits:
        return self._ledger.limits(scope)

    def spent(self, scope: SpendingScope) -> Charge:
        return self._ledger.spent(scope)

    def reserved(self, scope: SpendingScope) -> Charge:
        return self._ledger.reserved(scope)

    def first_waiting(self, scope: SpendingScope) -> Charge:
        """Return the most that the call may cost which waits for this account and comes first, or the smallest of
        several that do; nothing where none waits."""
        first = [queue[0].charge for payers, queue in self._waiting.items() if scope in payers]
        return min(first, key=lambda charge: (charge.nano_usd, charge.num_tokens), default=NO_CHARGE)

    async def reserve(
        self, scopes: Iterable[SpendingScope], charge: Charge, *, waits: bool = True
    ) -> Reservation | LimitRefusal:
        """Reserve the most that a call can cost; the call may start with the reservation, which is on the disk then.
        Where it will fit once calls that run have cost less than they might, it `waits` for them, in order."""
        payers = tuple(scopes)
        outcome: Reservation | LimitRefusal
        if waits and payers in self._waiting:
            outcome = await self._wait(payers, charge)
        else:
            outcome = self._ledger.reserve(payers, charge, self._now_s())
            if waits and isinstance(outcome, LimitRefusal) and outcome.may_fit_later:
                outcome = await self._wait(payers, charge)
        if isinstance(outcome, Reservation) and charge != NO_CHARGE:
            written = self._change(payers, NO_CHARGE, charge)
            try:
                if written is not None:
                    await asyncio.shield(written)
            except BaseException:
                self.release(outcome)
                raise
        return outcome

    def settle(self, reservation: Reservation, charge: Charge) -> None:
        """Take up what a call has cost, and let those start that wait for it."""
        self._ledger.settle(reservation, charge)
        scopes = reservation.scopes
        if charge != NO_CHARGE or reservation.charge != NO_CHARGE:
            self._change(scopes, charge, NO_CHARGE - reservation.charge)
        self._wake(scopes)

    def release(self, reservation: Reservation) -> None:
        """Give back what was reserved for a call that has cost nothing."""
        self.settle(reservation, NO_CHARGE)

    def flush(self) -> None:
        """Hand over to the store what is to be written; before its writer is closed."""
        if self._changes:
            self._write()

    async def _wait(self, payers: tuple[SpendingScope, ...], charge: Charge) -> Reservation | LimitRefusal:
        one = _Waiting(charge, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(payers, deque()).append(one)
        try:
            return await one.answer
        except asyncio.CancelledError:
            if one.answer.done() and not one.answer.cancelled() and isinstance(one.answer.result(), Reservation):
                self._ledger.release(one.answer.result())  # type: ignore[arg-type]  # a Reservation, as just seen
            self._wake(payers)
            raise

    def _wake(self, changed: Iterable[SpendingScope]) -> None:
        """Let calls start that wait and fit now, those of the same scopes in their order, and refuse those that never
        will."""
        touched = set(changed)
        for payers in [payers for payers in self._waiting if not touched.isdisjoint(payers)]:
            queue = self._waiting[payers]
            while queue:
                one = queue[0]
                if not one.answer.done():
                    outcome = self._ledger.reserve(payers, one.charge, self._now_s())
                    if isinstance(outcome, LimitRefusal) and outcome.may_fit_later:
                        break
                    one.answer.set_result(outcome)
                queue.popleft()
            if not queue:
                del self._waiting[payers]

    def _change(self, scopes: Iterable[SpendingScope], spent: Charge, reserved: Charge) -> asyncio.Future[None] | None:
        """Note a change, which is written with all others of this turn of the loop; None where nothing is written."""
        written = [scope for scope in scopes if scope in self._written]
        for scope in written:
            change = self._changes.setdefault(scope, SpendingChange())
            change.spent += spent
            change.reserved += reserved
        if not written:
            return None
        if self._next_write is None:
            loop = asyncio.get_running_loop()
            self._next_write = loop.create_future()
            loop.call_soon(self.flush)
        return self._next_write

    def _write(self) -> None:
        changes, self._changes = self._changes, {}
        waiting, self._next_write = self._next_write, None
        assert waiting is not None, "whoever notes a change waits for it"
        self._last_write = self._book.add(changes)
        self._last_write.add_done_callback(partial(_pass_on, waiting))


def _pass_on(waiting: asyncio.Future[None], written: asyncio.Future[None]) -> None:
    """Tell those that wait for a write; most settled calls have nobody that waits."""
    error = written.exception()
    if error is None:
        waiting.set_result(None)
    else:
        waiting.set_exception(error)
        waiting.exception()
