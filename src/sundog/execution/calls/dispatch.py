"""One call's way: render, look up, join or claim, run, commit.

Owns sharing and the commit point (docs/design.md). Never decides when or where a call runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, Protocol

from sundog.engines.base import Message, Usage
from sundog.errors import AnswersAwaited, CallError, PromptTooLong
from sundog.execution.calls.attempt import Attempts
from sundog.execution.calls.binder import Binder
from sundog.execution.calls.call_key import CallIdentity, RunScope, error_key
from sundog.execution.calls.charging import Charging
from sundog.execution.calls.claims import Claim
from sundog.execution.calls.exchange import CallExchange, ResultPlaces
from sundog.execution.calls.gather import Gatherer, Take
from sundog.execution.calls.guard import CommittedOutcome
from sundog.execution.calls.in_flight import InFlight, LeaderLeft
from sundog.execution.calls.refusals import refusal
from sundog.execution.calls.requests import Requests
from sundog.host.attempt import RunAttempt
from sundog.host.driver import Driver, GivenUp
from sundog.ir.physical import CallExec, Sharing
from sundog.ir.templates.render import Scope
from sundog.ir.values.normal_form import encode, whole_text
from sundog.operators.base import BoundCall
from sundog.store.store import NO_USAGE, Stored

EngineUsage = tuple[str, Usage]
"""The tokens of one call, with the engine that was asked."""


@dataclass(slots=True)
class CallAnswer:
    """A call's value and what computing it took, now or when it was first computed."""

    value: Any
    usage: Usage
    #: Seconds of its attempt, without waiting for a place.
    call_s: float = 0.0
    #: The key of its result.
    key: bytes = b""
    #: The messages of an LLM call.
    prompt: tuple[Message, ...] = ()
    #: The question, where a person answered.
    question: str | None = None
    #: The calls of models that were made for it, where it is the answer of a tool that was used.
    inner: tuple[EngineUsage, ...] = ()


class CallCounts(Protocol):
    """This class counts calls that have no attempt of their own: each that was asked for, and each that was answered
    without executing it."""

    def asked(self, step: str) -> None: ...

    def reused(self, step: str, *, is_of_another_run: bool) -> None: ...


class Dispatcher:
    """Answers calls: from the store, from an equal call in flight here or elsewhere, or by running them."""

    def __init__(
        self,
        run: RunScope,
        results: ResultPlaces,
        driver: Driver,
        binder: Binder,
        requests: Requests,
        attempts: Attempts,
        counts: CallCounts,
        charging: Charging | None = None,
    ) -> None:
        self._run = run
        self._store = results.store
        self._exchange = results.exchange
        self._driver = driver
        self._binder = binder
        self._requests = requests
        self._attempts = attempts
        self._counts = counts
        self._charging = charging
        self._in_flight: InFlight[CallAnswer] = InFlight()
        self._gatherer = Gatherer(self._send_gathered)

    async def call(self, node: CallExec, scope: Scope, identity: CallIdentity) -> CallAnswer:
        """Return the call's answer, committed; CallError when it failed, RunStopped when the run drains."""
        self._counts.asked(node.name)
        call, key = self._binder.bind(node, scope, identity)
        if not call.is_prepared:
            call, key = await self._binder.prepare(node, call, identity)
        # Awaited as it is: with one more turn of the loop between the look-up and the check for equal calls in flight,
        # such a call could commit and leave unseen.
        stored = await self._store.get(key)
        if stored is not None:
            self._driver.workflow_left(self._run.workflow_id(identity.row))
            self._counts.reused(node.name, is_of_another_run=stored.run_id != self._run.run_id)
            return _answer(stored, key, call)
        if call.question is not None:
            await self._store.put_awaited(key, self._run.run_id, identity.row, identity.path, node.name, call.question)
            raise AnswersAwaited(f"row {identity.row} waits for an answer")
        while (leader := self._in_flight.get(key)) is not None:
            self._driver.workflow_left(self._run.workflow_id(identity.row))
            try:
                answer = await leader.answer()
            except LeaderLeft:
                continue
            self._counts.reused(node.name, is_of_another_run=False)
            return answer
        if node.sharing is Sharing.NEVER:
            return await self._execute(node, call, key, identity)
        with self._in_flight.leading(key) as leading:
            exchange = self._exchange
            if exchange is None or not exchange.asks(node, call, identity.row):
                answer = await self._execute(node, call, key, identity)
            else:
                answer = await self._exchanged(exchange, node, call, key, identity)
            leading.succeed(answer)
            return answer

    async def call_or_error(self, node: CallExec, scope: Scope, identity: CallIdentity) -> CallAnswer | CallError:
        """Return what `call` does, or the error with which it fails, which is committed too: whoever acts on a failure
        must find it again. CallError where nobody knows whether an effect happened."""
        key = error_key(self._run, identity)
        known = await self._store.get(key)
        if known is not None:
            return _failed(_kept_failure(known.value), known.call_s)
        begin_s = monotonic()
        try:
            return await self.call(node, scope, identity)
        except CallError as error:
            if node.is_effect and error.is_outcome_unknown:
                raise
            body = encode(_told_failure(error))
            call_s = monotonic() - begin_s
            first = await self._store.put(key, self._run.run_id, node.name, body, NO_USAGE, call_s=call_s)
            return _failed(error, call_s if first is None else first.call_s)

    async def _exchanged(
        self, exchange: CallExchange, node: CallExec, call: BoundCall, key: bytes, identity: CallIdentity
    ) -> CallAnswer:
        """Return the result that another process has, or makes now; else run the call, and let all have the result."""
        leave = partial(self._driver.workflow_left, self._run.workflow_id(identity.row))
        stored = await exchange.claim(node, key, leave)
        if stored is not None:
            leave()
            self._counts.reused(node.name, is_of_another_run=stored.run_id != self._run.run_id)
            return _answer(stored, key, call)
        try:
            return await self._execute(node, call, key, identity, exchange)
        except CallError as error:
            exchange.fail(key, error)
            raise
        except BaseException:  # also where nobody waits for the call any more
            exchange.release(key)
            raise

    async def _execute(
        self, node: CallExec, call: BoundCall, key: bytes, identity: CallIdentity, exchange: CallExchange | None = None
    ) -> CallAnswer:
        """Run the call, gathered or alone, and commit its result: in the store, or where `exchange` does."""
        kept = await self._gathered(node, call, identity) if node.step.is_gathered else None
        if kept is None:
            attempt: RunAttempt[CommittedOutcome] = partial(self._attempts.alone, node, call, key, identity)
            if node.is_effect:
                attempt = Claim(self._store, self._run, key, identity).around(attempt)
            payment = None
            if self._charging is not None:
                if self._run.pays_before_place:
                    payment = self._charging.payment(node, call, identity)
                else:
                    attempt = self._charging.around(attempt, node, identity, lambda: (call,))
            try:
                request = self._requests.alone(node, call, identity)
                # Not in a coroutine of its own: each one costs every call.
                if payment is None:
                    kept = await self._driver.run(request, attempt)
                else:
                    kept = await payment.run(self._driver, request, attempt)
            except GivenUp as given_up:
                raise refusal(given_up, node.pool, node.max_retry_wait_s) from given_up.cause
        usage = kept.usage or NO_USAGE
        run_id = self._run.run_id
        if exchange is None:
            first = await self._store.put(
                key, run_id, node.name, kept.body, usage, call_s=kept.call_s, settles_claim=node.is_effect
            )
        else:
            first = await exchange.put(key, run_id, node.name, kept.body, usage, call_s=kept.call_s)
        # Another process may have answered an equal call meanwhile: the first result is the result.
        if first is not None:
            return _answer(first, key, call)
        return CallAnswer(kept.value, usage, kept.call_s, key, call.prompt)

    async def _gathered(self, node: CallExec, call: BoundCall, identity: CallIdentity) -> CommittedOutcome | None:
        """Return the outcome from a request that answered other calls too; None where the call must run alone."""
        group = self._binder.group_of(node, call)
        if group is None:
            return None
        # Calls that are paid from other accounts have a request of their own.
        return await self._gatherer.ask(node, (group, self._run.paid_by(identity.row)), call, identity)

    async def _send_gathered(
        self, node: CallExec, identity: CallIdentity, take: Take
    ) -> Sequence[CommittedOutcome | None]:
        request = self._requests.gathered(node, identity)
        attempt: RunAttempt[Sequence[CommittedOutcome | None]] = partial(self._attempts.together, node, take, identity)
        if self._charging is not None:
            attempt = self._charging.around(attempt, node, identity, take)
        try:
            return await self._driver.run(request, attempt)
        except GivenUp as given_up:
            raise refusal(given_up, node.pool, request.max_retry_wait_s) from given_up.cause


def _answer(stored: Stored, key: bytes, call: BoundCall) -> CallAnswer:
    return CallAnswer(stored.value, stored.usage, stored.call_s, key, call.prompt, call.question)


def _told_failure(error: CallError) -> Any:
    """Return what is kept of a failure: its text, and whether the prompt was too long, which ends a conversation."""
    what = whole_text(error.what)
    return {"too_long": what} if isinstance(error, PromptTooLong) else what


def _kept_failure(value: Any) -> CallError:
    match value:
        case {"too_long": str(what)}:
            return PromptTooLong(what)
    return CallError(value)


def _failed(error: CallError, call_s: float) -> CallError:
    error.call_s = call_s
    return error
