"""A served flow: it accepts rows as they come, runs them at once, and loses none.

Owns the life of a request: accepted (committed), running, ended. Never decides when or where a call runs; the core
does. What a client sees of it is serve's affair.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from pydantic_core import to_json

from sundog.errors import StoreError
from sundog.execution.row_way import RowEnd
from sundog.ir.row_ids import RowRef
from sundog.ledger.ledger import SpendingScope
from sundog.live.accounts import AccountsHeld, LiveAccounts
from sundog.live.figures import NUM_RECENT
from sundog.live.flow_request import FlowRequest
from sundog.live.kept_requests import KeptRequest, read_kept
from sundog.live.refusals import KeyReused, Overloaded
from sundog.live.row_runner import TABLE, RowRunner
from sundog.live.terms import NO_TERMS, Terms
from sundog.store.accepted import Accepted, AcceptedRequests

log = logging.getLogger("sundog.live")
RETRY_AFTER_S = 1.0


class LiveFlow:
    """This class serves one flow, once `renew` has told how. No more than `max_rows` rows are worked on at once, and as
    many of batches beside them; what comes beyond is refused, and never waits in memory."""

    def __init__(self, name: str, run_id: str, book: AcceptedRequests, accounts: LiveAccounts) -> None:
        self.name = name
        self.run_id = run_id
        #: By the number of a request that runs; the scope of its calls reads them.
        self.terms: dict[int, Terms] = {}
        #: Rows in flight of batches (True), and of all others.
        self._num_in_flight: Counter[bool] = Counter()
        #: Requests that came in this process, and by state the rows of those that have ended in it.
        self.num_accepted = 0
        self.num_ended_rows: Counter[str] = Counter()
        #: Seconds of the requests that ended last, from their acceptance on.
        self.recent_s: deque[float] = deque(maxlen=NUM_RECENT)
        self.is_stopping = False
        self._book = book
        self._accounts = accounts
        #: By the number of a request that runs, those who pay for it where they have limits.
        self._payers: dict[int, tuple[SpendingScope, ...]] = {}
        self._next_number = book.next_number(run_id)
        self._requests: dict[str, FlowRequest] = {}
        #: By sender and idempotency key, the requests that run.
        self._by_key: dict[tuple[str, str], FlowRequest] = {}
        #: By id, the requests of an earlier process that have not begun in this one.
        self._held: dict[str, tuple[FlowRequest, KeptRequest]] = {}
        #: The last one begins what comes; those before end what they began.
        self._runners: list[RowRunner] = []
        #: The most rows that are in flight.
        self.max_rows = 0

    @property
    def num_rows_in_flight(self) -> int:
        return self._num_in_flight.total()

    def renew(self, runner: RowRunner, max_rows: int) -> None:
        """Let `runner` begin what comes from now on."""
        self._runners = [*(one for one in self._runners if not one.is_idle), runner]
        self.max_rows = max_rows

    async def resume(self) -> int:
        """Go on with what was accepted and has not ended, and return how many requests that is. One that cannot be
        read is left as it is, and one whose payers another process counts is held until this one may."""
        for accepted in self._book.unended(self.run_id):
            try:
                kept = read_kept(accepted, self.name)
            except StoreError as error:
                log.error("a run that was accepted does not go on, and all others do: %s", error)
                continue
            request = FlowRequest(accepted, len(kept.rows), self._end, is_single=kept.is_single)
            self._open(request, kept.terms)
            self._held[accepted.request_id] = request, kept
        number = len(self._held)
        await self.begin_held()
        for request, _ in self._held.values():
            what = "the run '%s' of the flow '%s' waits until no other process counts what its key may spend"
            log.warning(what, request.accepted.request_id, self.name)
        return number

    async def begin_held(self) -> None:
        """Begin the requests that could not be begun, as far as that is possible now."""
        for request_id, (request, kept) in list(self._held.items()):
            ends_at_once = request.is_cancelled or kept.terms.is_over(time.time())
            if request_id not in self._held or (self.is_stopping and not ends_at_once):
                continue
            try:
                self._charge(request.accepted, kept.terms)
            except AccountsHeld:
                if not ends_at_once:
                    continue
            del self._held[request_id]
            self._num_in_flight[_is_of_batch(kept.terms)] += request.num_rows
            ended = self.ended_rows(request.accepted)
            for place, row in enumerate(kept.rows):
                if place not in ended:
                    self._begin(request, place, row, kept.terms)
            for place, end in ended.items():
                await request.row_ended(place, end)

    async def accept(
        self,
        rows: Sequence[Mapping[str, Any]],
        terms: Terms = NO_TERMS,
        *,
        principal: str = "",
        idempotency_key: str | None = None,
        keeps_steps: bool = False,
        is_single: bool = False,
    ) -> FlowRequest | Accepted:
        """Accept rows, commit them, and begin. Overloaded where there is no room; KeyReused where the sender has used
        the key for other rows. Where the key was used for these rows, that
        request is given again, as it runs or as it is kept, and nothing begins."""
        digest = blake2b(to_json([is_single, rows]), digest_size=16).digest()
        if idempotency_key is not None and (known := self._known(principal, idempotency_key, digest)) is not None:
            return known
        num_in_flight = self._num_in_flight[_is_of_batch(terms)]
        if self.is_stopping or num_in_flight + len(rows) > self.max_rows:
            raise Overloaded(self._why_full(num_in_flight, len(rows)), retry_after_s=RETRY_AFTER_S)
        number, self._next_number = self._next_number, self._next_number + 1
        body = KeptRequest(rows, is_single, terms).body()
        sent = (principal, idempotency_key, digest, body, time.time())
        accepted = Accepted(f"run-{uuid.uuid4().hex}", self.run_id, number, *sent)
        request = FlowRequest(accepted, len(rows), self._end, is_single=is_single, keeps_steps=keeps_steps)
        self._open(request, terms)
        self._num_in_flight[_is_of_batch(terms)] += len(rows)
        try:
            # Whoever cannot pay is told so before anything is promised.
            self._charge(accepted, terms)
            await self._book.put(accepted)
        except BaseException:
            self._forget(request)
            await self._accounts.close(_account_of(accepted))
            raise
        self.num_accepted += 1
        for place, row in enumerate(rows):
            self._begin(request, place, row, terms)
        return request

    def find(self, request_id: str) -> FlowRequest | Accepted | None:
        """Return a request: as it runs, or as it is kept."""
        return self._requests.get(request_id) or self._book.find(self.run_id, request_id)

    async def cancel(self, request: FlowRequest) -> None:
        """End the rows of a request that have not ended."""
        request.is_cancelled = True
        await self.begin_held()
        for task in request.running:
            task.cancel()
        for runner in self._runners:
            runner.end_awaiting(request)
        await request.ended()

    async def look_for_answers(self) -> None:
        """Go on with rows whose questions a person has answered."""
        for runner in self._runners:
            await runner.look_for_answers()

    async def drain(self, within_s: float) -> None:
        """Accept nothing more, and return when nothing runs, or after `within_s`."""
        self.is_stopping = True
        await asyncio.gather(*(runner.wait(within_s) for runner in self._runners))

    async def close(self) -> None:
        """Let go of what runs; what has not ended goes on when the flow is served again."""
        self.is_stopping = True
        await asyncio.gather(*(runner.close() for runner in self._runners))

    def as_ended(self, kept: Accepted) -> FlowRequest:
        """Return a kept request as it was when it ended; StoreError where it cannot be read."""
        read = read_kept(kept, self.name)
        return FlowRequest.kept(kept, len(read.rows), self.ended_rows(kept), is_single=read.is_single)

    def ended_rows(self, request: Accepted) -> dict[int, RowEnd]:
        """Return the rows of a kept request that have ended, by place."""
        found = self._book.rows(request, TABLE)
        return {row_id[1]: RowEnd(RowRef(TABLE, row_id), state, body, ()) for row_id, state, body in found}

    def _known(self, principal: str, key: str, digest: bytes) -> FlowRequest | Accepted | None:
        running = self._by_key.get((principal, key))
        kept = running.accepted if running is not None else self._book.find_key(self.run_id, principal, key)
        if kept is not None and kept.digest != digest:
            raise KeyReused(kept.request_id)
        return running or kept

    def _why_full(self, num_in_flight: int, num_rows: int) -> str:
        if self.is_stopping:
            return f"the flow '{self.name}' takes no further rows: the server is stopping"
        return f"{num_in_flight:,} of {self.max_rows:,} rows are in flight, and {num_rows:,} more came"

    def _open(self, request: FlowRequest, terms: Terms) -> None:
        accepted = request.accepted
        self._requests[accepted.request_id] = request
        if accepted.idempotency_key is not None:
            self._by_key[accepted.principal, accepted.idempotency_key] = request
        if terms != NO_TERMS:
            self.terms[accepted.number] = terms

    def _begin(self, request: FlowRequest, place: int, row: Mapping[str, Any], terms: Terms) -> None:
        self._runners[-1].start(request, place, row, terms)

    def payers_of(self, number: int) -> tuple[SpendingScope, ...]:
        """Return those who pay for the calls of a request now: its key, the tenant, and the request itself, as far as
        they have limits."""
        payers = self._payers.get(number)
        return () if payers is None else self._accounts.paying(payers)

    def _charge(self, accepted: Accepted, terms: Terms) -> None:
        """Note who pays for a request, and open its own account where it has limits."""
        payers: tuple[SpendingScope, ...] = ()
        if accepted.principal:
            payers = self._accounts.of_key(accepted.principal, terms.tenant)
        if terms.limits.are_of_money:
            payers += (_account_of(accepted),)
            self._accounts.open(payers[-1], terms.limits)
        if payers:
            self._payers[accepted.number] = payers

    def _forget(self, request: FlowRequest) -> None:
        accepted = request.accepted
        self._payers.pop(accepted.number, None)
        del self._requests[accepted.request_id]
        if accepted.idempotency_key is not None:
            del self._by_key[accepted.principal, accepted.idempotency_key]
        terms = self.terms.pop(accepted.number, NO_TERMS)
        self._num_in_flight[_is_of_batch(terms)] -= request.num_rows

    async def _end(self, request: FlowRequest) -> None:
        await self._accounts.close(_account_of(request.accepted))
        await self._book.end(request.accepted.request_id, "cancelled" if request.is_cancelled else "completed")
        self.num_ended_rows.update(end.state for end in request.ends.values())
        self.recent_s.append(max(0.0, time.time() - request.accepted.accepted_at))
        self._forget(request)


def _is_of_batch(terms: Terms) -> bool:
    return terms.tier == "batch"


def _account_of(accepted: Accepted) -> SpendingScope:
    return SpendingScope("request", accepted.request_id)
