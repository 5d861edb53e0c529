"""The calls that equal ones share, asked for as whole answers or as streams.

Owns how such a call is made for all who want it. Which calls are equal, `sharing` says; who leads, the host's answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, cast

from pydantic_core import from_json

from sundog.engines.base import Usage
from sundog.execution.calls.payment import Payment
from sundog.live.engines import LiveEngines
from sundog.live.shared_answers import EqualCall, SharedAnswers
from sundog.live.shared_streams import SharedStream
from sundog.serve.doors.models.exchange import Exchange, message_of
from sundog.serve.doors.models.forms import CHAT, COMPLETIONS, EMBEDDINGS, WireForm
from sundog.serve.doors.models.paying import HeldMoney, HeldPayers
from sundog.serve.doors.models.reply import HeldReply, SharedReply
from sundog.serve.doors.models.sharing import sharing_key
from sundog.serve.wire.errors import Refusal

PLAIN: Mapping[str, WireForm] = {form.path: form for form in (CHAT, COMPLETIONS, EMBEDDINGS)}
"""The forms of servers, by their paths."""

MakeCall = Callable[[Exchange, Payment | None], Awaitable[Usage | None]]
"""Has the core run the call of an exchange, paid with what is held where that is told."""
HoldMoney = Callable[[Exchange], Awaitable[Payment]]
"""Gives a payment for the call of an exchange, with its money held."""


class SharedCalls:
    """This class answers exchanges by calls that equal ones have in common, where they may."""

    def __init__(self, shared: SharedAnswers, engines: LiveEngines) -> None:
        self._shared = shared
        self._engines = engines

    async def answer(
        self, exchange: Exchange, pool: str, tier: str, payers: HeldPayers, make: MakeCall, hold: HoldMoney
    ) -> None:
        """Answer an exchange by a call of its own, or by one that equal calls have in common. `tier`: of whoever
        asks."""
        key = self._key(exchange, pool)
        if key is None:
            await make(exchange, None)
            return
        call = EqualCall(key, str(exchange.chat.get("model")), tier)
        exchange.notes.is_reused = True
        try:
            await self._answer_shared(call, exchange, payers, make, hold)
        except Refusal:
            if not exchange.notes.is_reused or exchange.has_begun:
                raise
            # It was told to another client, whose request may be wrong in a field that is its own alone.
            await make(exchange, None)

    async def _answer_shared(
        self, call: EqualCall, exchange: Exchange, payers: HeldPayers, make: MakeCall, hold: HoldMoney
    ) -> None:
        money = HeldMoney(payers.payers, lambda: hold(_as_asked(exchange, HeldReply()))) if payers.payers else None
        if exchange.is_streamed:
            await self._shared.stream(
                call, lambda stream: _streamed(exchange, payers, make, stream, money), exchange, money
            )
        else:
            found = await self._shared.answer(call, lambda: _whole(exchange, make, money), money)
            await exchange.told_whole(cast(Mapping[str, Any], found))

    def _key(self, exchange: Exchange, pool: str) -> bytes | None:
        """Return the key of an answer that equal calls have in common; None for one of its own."""
        if exchange.is_streamed and (exchange.form is EMBEDDINGS or _wants_more(exchange.chat.get("stream_options"))):
            return None
        return sharing_key(exchange.form.path, exchange.chat, self._engines.identity(pool))


async def _whole(exchange: Exchange, make: MakeCall, money: HeldMoney | None) -> tuple[object, Usage | None]:
    """Return the completion of a call, and its tokens; Refusal where a server says that it is wrong."""
    held = HeldReply()
    usage = await make(_as_asked(exchange, held), None if money is None else money.take())
    _check(held)
    return from_json(held.body), usage


def _streamed(
    exchange: Exchange, payers: HeldPayers, make: MakeCall, stream: SharedStream, money: HeldMoney | None
) -> Coroutine[Any, Any, tuple[object | None, Usage | None]]:
    """Return what makes a stream for all who read it. Its payers are held until it has ended, though the request that
    it is made for may end before."""
    exchange.notes.is_reused = False
    payers.hold()
    payment = None if money is None else money.take()

    async def made() -> tuple[object | None, Usage | None]:
        try:
            shared = SharedReply(stream)
            usage = await make(_as_asked(exchange, shared), payment)
            if shared.status:
                _check(shared)
            return shared.joined(), usage
        finally:
            await payers.let_go()

    return made()


def _as_asked(exchange: Exchange, reply: HeldReply | SharedReply) -> Exchange:
    """Return an exchange in the form that servers are asked in."""
    return exchange.held(PLAIN[exchange.form.path], reply)


def _check(held: HeldReply) -> None:
    if held.status != 200:
        raise Refusal(held.status, message_of(held.body), is_final=True)


def _wants_more(options: Any) -> bool:
    """Return whether a client wants more of its stream than that it tells of tokens."""
    return options is not None and (not isinstance(options, Mapping) or bool(options.keys() - {"include_usage"}))
