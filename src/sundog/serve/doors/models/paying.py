"""The payers of a call of a model, and the most that it can cost.

Owns what a body says of both. What fits is the ledger's affair, and waiting that of the accounts.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from typing import Any

from sundog.engines.base import Engine, GenerateRequest
from sundog.engines.forwarding import is_forwarding
from sundog.engines.message_parts import FILE_BYTES_PER_TOKEN
from sundog.execution.calls.payment import Payment
from sundog.ir.pool_names import engine_of
from sundog.ledger.charges import NO_CHARGE
from sundog.ledger.ledger import SpendingLimits, SpendingScope
from sundog.live.host import LiveHost
from sundog.serve.doors.models.asked import AskedHead
from sundog.serve.doors.models.programs import ProgramPlace
from sundog.serve.identity import BUDGET_NAME, ToldIdentity
from sundog.serve.wire.errors import wrong_request
from sundog.tokens import MESSAGE_TOKENS, TEMPLATE_TOKENS

Payers = tuple[SpendingScope, ...]
PICTURE_TOKENS = 1_445
"""A picture of eight tiles, the largest that servers of this kind look at; it is a guess."""
MAX_COUNTED_TOKENS = 10**10
"""No call has as many; sums of more would not fit into the store."""
_PICTURES = ("image_url", "input_image", "image")
_LIMITS = ("max_completion_tokens", "max_tokens")


class HeldPayers:
    """The payers of one request, until nobody needs them any more: they are held as a context by the request itself,
    and by a call that goes on for others when that has ended. `left`: what is to be closed then, None for nothing."""

    def __init__(self, payers: Payers, left: AsyncExitStack | None = None) -> None:
        self.payers = payers
        self._left = left
        self._num_holding = 0

    async def __aenter__(self) -> HeldPayers:
        self.hold()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.let_go()

    def hold(self) -> None:
        """Keep them; `let_go` must follow."""
        self._num_holding += 1

    async def let_go(self) -> None:
        """Close them, where nobody else holds them."""
        self._num_holding -= 1
        if not self._num_holding and self._left is not None:
            await self._left.aclose()


class HeldMoney:
    """The money of one call that may be made for others too, until it is made. `held`: gives a payment whose money is
    held; LimitReached where there never is enough."""

    def __init__(self, payers: Payers, held: Callable[[], Awaitable[Payment]]) -> None:
        self._payers = payers
        self._held = held
        self._payment: Payment | None = None

    @property
    def payers(self) -> Payers:
        return self._payers

    @property
    def is_held(self) -> bool:
        return self._payment is not None

    async def hold(self) -> None:
        """Return when the money is held."""
        self._payment = await self._held()

    def let_go(self) -> None:
        """Give back what is held and was not taken."""
        if self._payment is not None:
            self.take().let_go()

    def take(self) -> Payment:
        """Return the payment, which is the affair of whoever takes it from now on."""
        payment, self._payment = self._payment, None
        assert payment is not None, "hold it first"
        return payment


NOBODY = nullcontext(HeldPayers(()))
"""The payers of a request without limits."""


class Paying:
    """This class finds who pays for a call, and how much is to be held for it."""

    def __init__(self, host: LiveHost) -> None:
        self._accounts = host.accounts
        self._budgets = host.budgets
        self._tariffs = host.engines.tariffs

    def payers(
        self, asked: AskedHead, told: ToldIdentity, place: ProgramPlace, request_id: str
    ) -> AbstractAsyncContextManager[HeldPayers]:
        """Return the context in which a request is answered; it gives who pays: the key and its tenant, the program and
        the one at the root of its parents, and the request itself, as far as they have limits."""
        tells_limits = told.budget_usd is not None or told.max_usd is not None or told.max_tokens is not None
        if tells_limits or asked.principal is not None or self._budgets.are_any:
            return self._entered(asked, told, place, request_id)
        return NOBODY

    @asynccontextmanager
    async def _entered(
        self, asked: AskedHead, told: ToldIdentity, place: ProgramPlace, request_id: str
    ) -> AsyncIterator[HeldPayers]:
        if told.budget_usd is not None and not told.session:
            what = "the budget is that of a program, and this request does not name one"
            raise wrong_request(BUDGET_NAME, what, hint="send x-session-id too, or x-sundog-max-usd for one request")
        payers = () if asked.principal is None else self._accounts.of(asked.principal.scopes)
        async with AsyncExitStack() as stack:
            for program, told_usd in ((place.program, told.budget_usd), (place.root, None)):
                for payer in await self._budgets.enter(program, told_usd):
                    stack.push_async_callback(self._budgets.leave, payer)
                    payers += (payer,)
            if told.max_usd is not None or told.max_tokens is not None:
                request = SpendingScope("request", request_id)
                self._accounts.open(request, SpendingLimits(told.max_usd, told.max_tokens), is_kept=False)
                stack.push_async_callback(self._accounts.close, request)
                payers += (request,)
            held = HeldPayers(payers, stack.pop_all())
        async with held:
            yield held

    def payment(
        self, payers: Payers, pool: str, engine: Engine, body: Mapping[str, Any], request: GenerateRequest | None
    ) -> Payment:
        """Return what pays for a call that somebody has limits for. `request`: as an engine of this process is asked.
        Refusal where nobody knows what it can cost at most."""
        tariff, most = self._tariffs[pool], NO_CHARGE
        if self._accounts.bounds(payers, tariff):
            if is_forwarding(engine):
                body = {**body, **engine.added_fields}
            num_prompt_tokens = most_tokens_of_prompts(body, engine, request)
            num_output_tokens = most_tokens_of_answers(body, engine, num_prompt_tokens, engine_of(pool) or pool)
            if num_prompt_tokens + num_output_tokens > MAX_COUNTED_TOKENS:
                raise wrong_request("max_tokens", "the call may take more tokens than limits can count")
            most = tariff.most(num_prompt_tokens, num_output_tokens)
        return self._accounts.payment(payers, tariff, most)


def most_tokens_of_prompts(body: Mapping[str, Any], engine: Engine, request: GenerateRequest | None) -> int:
    """Return the most tokens that the prompts of a body can have: those that are, where the engine's tokenizer is here,
    else one for each byte, as no token of text is shorter. Of pictures and documents it is an estimate."""
    if request is not None and engine.capabilities().counts_exactly:
        return engine.count_prompt_tokens(request)
    messages = body.get("messages")
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        messages = ()
    around = TEMPLATE_TOKENS + MESSAGE_TOKENS * len(messages)
    rest = {name: value for name, value in body.items() if name != "messages"}
    return around + _num_bytes(rest) + sum(_message_tokens(message) for message in messages)


def most_tokens_of_answers(body: Mapping[str, Any], engine: Engine, num_prompt_tokens: int, name: str) -> int:
    """Return the most tokens that all answers to a body can have; Refusal where nobody knows that."""
    if "input" in body and "messages" not in body and "prompt" not in body:
        return 0
    limits = [body[limit] for limit in _LIMITS if body.get(limit) is not None]
    if not all(_is_count(limit) for limit in limits):
        # Servers read texts as numbers, and some a negative one as no limit: it bounds nothing here.
        limits = []
    max_context_tokens = engine.capabilities().max_context_tokens
    if limits:
        each = int(max(limits))
    elif max_context_tokens is not None:
        counts_exactly = engine.capabilities().counts_exactly
        each = max(0, max_context_tokens - (num_prompt_tokens if counts_exactly else 0))
    else:
        what = f"nobody knows how long an answer of the model '{name}' may be, and a limit needs to know"
        raise wrong_request("max_tokens", what, hint="say it", code="max_tokens_needed")
    return each * _num_answers(body)


def _num_answers(body: Mapping[str, Any]) -> int:
    of_each = 1
    for name in ("n", "best_of"):
        number = body.get(name)
        if number is not None and not _is_count(number):
            raise wrong_request(name, "it is a whole number from 1 on: a limit counts all answers")
        of_each = max(of_each, number or 1)
    prompts = body.get("prompt")
    are_many = isinstance(prompts, list) and any(isinstance(one, str | list) for one in prompts)
    return of_each * (len(prompts) if are_many and isinstance(prompts, list) else 1)


def _message_tokens(message: Any) -> int:
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list):
        return _num_bytes(message)
    others = {name: value for name, value in message.items() if name != "content"}
    return _num_bytes(others) + sum(_part_tokens(content))


def _part_tokens(parts: Sequence[Any]) -> Iterator[int]:
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in _PICTURES:
            yield PICTURE_TOKENS
        elif kind in ("file", "input_audio", "input_file"):
            yield _num_bytes(part) // FILE_BYTES_PER_TOKEN + 1
        else:
            yield _num_bytes(part)


def _num_bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
