"""Calls that have limits: what each may cost is reserved when its attempt starts, and settled when that ends.

Owns the most that a call can cost, and what a failed one counts as. Never decides what fits; the ledger does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from sundog.engines.base import Engine, GenerateRequest
from sundog.errors import RunError, RunStopped
from sundog.execution.calls.call_key import CallIdentity, RunScope
from sundog.execution.calls.payment import Payment, limit_reached, paid_attempt
from sundog.execution.spending import SpendingAccounts
from sundog.host.attempt import RunAttempt, Success
from sundog.host.driver import Driver
from sundog.ir.physical import CallExec
from sundog.ir.pool_names import engine_of
from sundog.ir.values.canonical import canonical_json
from sundog.ledger.charges import NO_CHARGE, Charge, Tariff
from sundog.ledger.ledger import LimitRefusal, SpendingLimits, SpendingScope
from sundog.operators.base import BoundCall
from sundog.sched.events import Submit
from sundog.tokens import MESSAGE_TOKENS, TEMPLATE_TOKENS

T = TypeVar("T")
TEXTS_OF_PROMPT = ("engine", "messages", "text")
"""What of a call's payload its messages say, or no server reads; all else may be a part of the prompt."""


class Charging:
    """This class lets the attempts of one host start where their payers have room. `tariffs`: by the pool of each
    engine; `engines`: by replica, now; `by_pool`: one of each, where the run pays before it asks for a place."""

    def __init__(
        self,
        run: RunScope,
        accounts: SpendingAccounts,
        driver: Driver,
        tariffs: Mapping[str, Tariff],
        engines: Mapping[str, Engine],
        by_pool: Mapping[str, Engine],
    ) -> None:
        self._run = run
        self._accounts = accounts
        self._driver = driver
        self._tariffs = tariffs
        self._engines = engines
        self._by_pool = by_pool

    def payment(self, node: CallExec, call: BoundCall, identity: CallIdentity) -> Payment | None:
        """Return what pays for a call that runs alone; None where nobody has limits, or it costs nothing."""
        payers = self._run.paid_by(identity.row)
        tariff = self._tariffs.get(node.pool)
        if not payers or tariff is None:
            return None
        return Payment(self._accounts, payers, tariff, self._most(node, payers, (call,), self._by_pool.get(node.pool)))

    def around(
        self,
        attempt: RunAttempt[T],
        node: CallExec,
        identity: CallIdentity,
        take: Callable[[], Sequence[BoundCall]],
    ) -> RunAttempt[T]:
        """Return `attempt` with what its calls may cost reserved before it. `take` gives them once it starts.
        LimitReached where they fit into no limit any more; an attempt waits, in its place, where they may fit later."""
        payers = self._run.paid_by(identity.row)
        if not payers:
            return attempt

        async def charged(submit: Submit) -> Success[T]:
            charge = self._most(node, payers, take(), self._engines.get(submit.replica_id))
            outcome = await self._accounts.reserve(payers, charge)
            if isinstance(outcome, LimitRefusal):
                raise limit_reached(outcome)
            if self._driver.is_stopping:
                self._accounts.release(outcome)
                raise RunStopped("the run is stopping")
            return await paid_attempt(self._accounts, attempt, submit, outcome, self._tariffs.get(node.pool))

        return charged

    def _most(
        self, node: CallExec, payers: Sequence[SpendingScope], calls: Sequence[BoundCall], engine: Engine | None
    ) -> Charge:
        tariff = self._tariffs.get(node.pool)
        if tariff is None or not any(bounds_calls(self._accounts.limits(payer), tariff) for payer in payers):
            return NO_CHARGE
        assert engine is not None, "only a pool of engines has a tariff"
        return sum((most_of_call(call, engine, tariff, node.pool) for call in calls), NO_CHARGE)


def bounds_calls(limits: SpendingLimits, tariff: Tariff) -> bool:
    """Return whether limits need to know what a call at this tariff costs at most."""
    return limits.max_tokens is not None or (limits.max_usd is not None and not tariff.is_free)


def most_of_call(call: BoundCall, engine: Engine, tariff: Tariff, pool: str) -> Charge:
    """Return the most that a call can cost: its prompt, and the longest answer. Where the step does not say how long
    that is, it is what the model's context has left; RunError where nobody knows that."""
    num_prompt_tokens = most_prompt_tokens(call, engine)
    if call.max_tokens is not None:
        return tariff.most(num_prompt_tokens, call.max_tokens)
    max_context_tokens = engine.capabilities().max_context_tokens
    if max_context_tokens is None:
        raise RunError(
            f"nobody knows how long an answer of the engine '{engine_of(pool)}' may be, so no limit can hold",
            hint="give the step `max_tokens`, or the engine `max_context_tokens` where its kind has that",
        )
    if engine.capabilities().counts_exactly:
        return tariff.most(num_prompt_tokens, max(0, max_context_tokens - num_prompt_tokens))
    # A prompt may be shorter than the most, and its answer longer by that.
    return tariff.most(num_prompt_tokens, max_context_tokens)


def most_prompt_tokens(call: BoundCall, engine: Engine) -> int:
    """Return the most tokens that a prompt can have: exactly those where the engine's tokenizer is here, else one for
    each byte, as no token of text is shorter. Of pictures and documents it is an estimate."""
    if engine.capabilities().counts_exactly:
        return engine.count_prompt_tokens(GenerateRequest("", call.prompt))
    num_bytes = sum(len(message.text.encode("utf-8", "replace")) for message in call.prompt)
    more = {name: value for name, value in call.payload.items() if name not in TEXTS_OF_PROMPT}
    num_part_tokens = sum(message.num_part_tokens for message in call.prompt)
    around = TEMPLATE_TOKENS + MESSAGE_TOKENS * len(call.prompt)
    return num_bytes + len(canonical_json(more)) + num_part_tokens + around
