"""Answers that equal calls of models have in common: in flight, and of all that were made before.

Owns the one commit of each answer, and that nobody waits for the money of others. Never decides which calls are equal;
the doors do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakValueDictionary

from sundog.engines.base import Usage
from sundog.errors import EngineUnavailable, LimitReached
from sundog.execution.calls.in_flight import InFlight, LeaderLeft
from sundog.ir.values.normal_form import encode
from sundog.ledger.ledger import SpendingScope
from sundog.live.shared_streams import SharedStream
from sundog.store.store import NO_USAGE, Store

MakeAnswer = Callable[[], Awaitable[tuple[object, Usage | None]]]
"""Gives an answer in JSON types and its tokens."""
MakeStream = Callable[[SharedStream], Coroutine[Any, Any, tuple[object | None, Usage | None]]]
"""Adds its pieces to a stream, and gives what all of it says, None where nobody knows how to say it whole, and its
tokens. It is always run to its first wait."""


@dataclass(frozen=True, slots=True)
class EqualCall:
    """A call that is answered as all equal ones are."""

    #: Equal for calls that have one answer.
    key: bytes
    #: The model that is noted with the answer.
    model: str
    #: The tier of whoever asks. A call in flight is joined by those of its own tier: one of a lower tier may wait for
    #: an hour, and nobody of a higher one with it.
    tier: str = ""

    @property
    def flight(self) -> bytes:
        """Return what is equal for calls of which one in flight is joined by the others."""
        return self.key + self.tier.encode()


class StreamReader(Protocol):
    """A request that wants its answer as a stream."""

    @property
    def has_begun(self) -> bool:
        """Return whether its client has got a part of the answer."""
        ...

    async def read_whole(self, answer: object) -> None:
        """Take an answer that is there."""
        ...

    async def read_pieces(self, pieces: AsyncIterator[bytes]) -> None:
        """Take an answer as it comes."""
        ...


class PayingCall(Protocol):
    """The money of a call that limits bind."""

    @property
    def payers(self) -> tuple[SpendingScope, ...]:
        """Return who pays: calls of the same ones wait for the same money."""
        ...

    @property
    def is_held(self) -> bool:
        """Return whether its money is held."""
        ...

    async def hold(self) -> None:
        """Return when its money is held; LimitReached where it never will be."""
        ...

    def let_go(self) -> None:
        """Give back what is held, unless the call has begun."""
        ...


class SharedAnswers:
    """This class answers calls that are functions of their requests."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        self._in_flight: InFlight[object] = InFlight()
        #: By flight, the streams that others may join.
        self._streams: dict[bytes, SharedStream] = {}
        self._making: set[asyncio.Task[None]] = set()
        #: By flight and payers, those that wait for money, one after the other: the first one's answer is that of all.
        self._waiting: WeakValueDictionary[tuple[bytes, tuple[SpendingScope, ...]], asyncio.Lock]
        self._waiting = WeakValueDictionary()
        #: Calls that were answered without being made.
        self.num_reused = 0

    async def answer(self, call: EqualCall, make: MakeAnswer, paying: PayingCall | None = None) -> object:
        """Return the answer of a call: a committed one, that of an equal call in flight, or the one that `make` gives,
        committed. What `make` raises is the failure of all that have joined. `paying`: None where nobody has limits.
        The money is there before anybody can join."""
        try:
            while (found := await self._look(call, paying)) is None:
                first = self._in_flight.get(call.flight) or self._streams.get(call.flight)
                if first is None:
                    return await self._led(call, make)
                _let_go(paying)
                # The limits are those of whoever came first.
                with suppress(LeaderLeft, LimitReached):
                    found = await first.answer()
                if found is not None:
                    break
        finally:
            _let_go(paying)
        self.num_reused += 1
        return found

    async def stream(
        self, call: EqualCall, make: MakeStream, reader: StreamReader, paying: PayingCall | None = None
    ) -> None:
        """Answer a call as a stream: by a committed answer, by that of an equal call in flight, as it comes where that
        is a stream, or by the stream that `make` gives, which is committed when it has ended. That goes on for as long
        as somebody reads it, whoever came first. `paying`: as of `answer`; `make` takes what is held."""
        try:
            while (found := await self._look(call, paying)) is None:
                leader, stream = self._in_flight.get(call.flight), self._streams.get(call.flight)
                is_first = leader is None and stream is None
                try:
                    if leader is not None:
                        _let_go(paying)
                        found = await leader.answer()
                        break
                    stream = stream or self._begin(call, make)
                    _let_go(paying)
                    await _read(stream, reader)
                    self.num_reused += not is_first
                    return
                except (LeaderLeft, LimitReached):
                    if is_first or reader.has_begun:
                        raise
        finally:
            _let_go(paying)
        self.num_reused += 1
        await reader.read_whole(found)

    async def settle(self) -> None:
        """End the streams that are not whole, and return when the others are kept."""
        for stream in list(self._streams.values()):
            stream.give_up()
        if self._making:
            await asyncio.wait(self._making)

    async def _look(self, call: EqualCall, paying: PayingCall | None) -> object | None:
        """Return the answer that is there; else None, once the call can join an equal one, or has its money. Nothing is
        awaited between that and its return."""
        found = await self._stored(call.key)
        while found is None and paying is not None and not paying.is_held and not self._is_coming(call):
            found = await self._hold(call, paying)
        return found

    async def _hold(self, call: EqualCall, paying: PayingCall) -> object | None:
        """Return when the money of a call is held and nobody makes it, or when others do; the answer where there is
        one by then. Nothing is awaited between its return and the beginning of the call."""
        lock = self._waiting.setdefault((call.flight, paying.payers), asyncio.Lock())
        async with lock:
            if self._is_coming(call):
                return None
            found = await self._stored(call.key)
            if found is not None or self._is_coming(call):
                return found
            try:
                await paying.hold()
            except LimitReached:
                found = await self._stored(call.key)
                if found is None and not self._is_coming(call):
                    raise
                return found
            return await self._stored(call.key)

    def _is_coming(self, call: EqualCall) -> bool:
        return self._in_flight.get(call.flight) is not None or call.flight in self._streams

    async def _led(self, call: EqualCall, make: MakeAnswer) -> object:
        with self._in_flight.leading(call.flight) as leading:
            answer, usage = await make()
            answer = await self._kept(call, answer, usage)
            leading.succeed(answer)
            return answer

    async def _stored(self, key: bytes) -> object | None:
        stored = await self._store.get(key)
        return None if stored is None else stored.value

    async def _kept(self, call: EqualCall, answer: object, usage: Usage | None) -> object:
        """Commit an answer, and return it, or the one that was committed before."""
        first = await self._store.put(call.key, self._run_id, call.model, encode(answer), usage or NO_USAGE)
        return answer if first is None else first.value

    def _begin(self, call: EqualCall, make: MakeStream) -> SharedStream:
        def leave() -> None:
            self._forget(call, stream)
            # It runs up to its first wait before: what it holds, it lets go.
            loop.call_soon(making.cancel)

        loop = asyncio.get_running_loop()
        stream = self._streams[call.flight] = SharedStream(leave)
        making = loop.create_task(self._make(call, make(stream), stream))
        self._making.add(making)
        making.add_done_callback(self._making.discard)
        return stream

    async def _make(
        self,
        call: EqualCall,
        made: Coroutine[Any, Any, tuple[object | None, Usage | None]],
        stream: SharedStream,
    ) -> None:
        try:
            answer, usage = await made
            stream.is_whole = True
            if answer is not None:
                answer = await self._kept(call, answer, usage)
        except asyncio.CancelledError:
            stream.fail(EngineUnavailable("the server is stopping", retryable=True))
            raise
        except Exception as error:  # its readers raise it
            self._forget(call, stream)
            stream.fail(error)
        else:
            self._forget(call, stream)
            stream.end(answer)

    def _forget(self, call: EqualCall, stream: SharedStream) -> None:
        """Let nobody join a stream any more."""
        if self._streams.get(call.flight) is stream:
            del self._streams[call.flight]


async def _read(stream: SharedStream, reader: StreamReader) -> None:
    async with aclosing(stream.pieces()) as pieces:
        await reader.read_pieces(pieces)


def _let_go(paying: PayingCall | None) -> None:
    if paying is not None:
        paying.let_go()
