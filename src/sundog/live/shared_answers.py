"""Answers that equal calls of models have in common: in flight, and of all that were made before.

Owns the one commit of each answer. Never decides which calls are equal; the doors do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Protocol

from sundog.engines.base import Usage
from sundog.errors import EngineUnavailable, LimitReached
from sundog.execution.calls.in_flight import InFlight, LeaderLeft
from sundog.ir.values.normal_form import encode
from sundog.live.shared_streams import SharedStream
from sundog.store.store import NO_USAGE, Store

MakeAnswer = Callable[[], Awaitable[tuple[object, Usage | None]]]
"""Gives an answer in JSON types and its tokens."""
MakeStream = Callable[[SharedStream], Coroutine[Any, Any, tuple[object | None, Usage | None]]]
"""Adds its pieces to a stream, and gives what all of it says, None where nobody knows how to say it whole, and its
tokens. It is always run to its first wait."""


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


class SharedAnswers:
    """This class answers calls that are functions of their requests."""

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        self._in_flight: InFlight[object] = InFlight()
        #: By key, the streams that others may join.
        self._streams: dict[bytes, SharedStream] = {}
        self._making: set[asyncio.Task[None]] = set()
        #: Calls that were answered without being made.
        self.num_reused = 0

    async def answer(self, key: bytes, model: str, make: MakeAnswer) -> object:
        """Return the answer of a key: a committed one, that of an equal call in flight, or the one that `make` gives,
        committed. What `make` raises is the failure of all that have joined."""
        found = await self._stored(key)
        while found is None:
            leader, stream = self._in_flight.get(key), self._streams.get(key)
            try:
                if leader is not None:
                    found = await leader.answer()
                elif stream is not None:
                    found = await stream.answer()
                else:
                    break
            except (LeaderLeft, LimitReached):
                # The limits are those of whoever came first.
                continue
        else:
            self.num_reused += 1
            return found
        with self._in_flight.leading(key) as leading:
            answer, usage = await make()
            answer = await self._kept(key, model, answer, usage)
            leading.succeed(answer)
            return answer

    async def stream(self, key: bytes, model: str, make: MakeStream, reader: StreamReader) -> None:
        """Answer a key as a stream: by a committed answer, by that of an equal call in flight, as it comes where that
        is a stream, or by the stream that `make` gives, which is committed when it has ended. That goes on for as long
        as somebody reads it, whoever came first."""
        found = await self._stored(key)
        while found is None:
            leader, stream = self._in_flight.get(key), self._streams.get(key)
            is_first = leader is None and stream is None
            try:
                if leader is not None:
                    found = await leader.answer()
                else:
                    await _read(stream or self._begin(key, model, make), reader)
                    self.num_reused += not is_first
                    return
            except (LeaderLeft, LimitReached):
                if is_first or reader.has_begun:
                    raise
        self.num_reused += 1
        await reader.read_whole(found)

    async def settle(self) -> None:
        """End the streams that are not whole, and return when the others are kept."""
        for stream in list(self._streams.values()):
            stream.give_up()
        if self._making:
            await asyncio.wait(self._making)

    async def _stored(self, key: bytes) -> object | None:
        stored = await self._store.get(key)
        return None if stored is None else stored.value

    async def _kept(self, key: bytes, model: str, answer: object, usage: Usage | None) -> object:
        """Commit an answer, and return it, or the one that another process has committed before."""
        first = await self._store.put(key, self._run_id, model, encode(answer), usage or NO_USAGE)
        return answer if first is None else first.value

    def _begin(self, key: bytes, model: str, make: MakeStream) -> SharedStream:
        def leave() -> None:
            self._forget(key, stream)
            # It runs up to its first wait before: what it holds, it lets go.
            loop.call_soon(making.cancel)

        loop = asyncio.get_running_loop()
        stream = self._streams[key] = SharedStream(leave)
        making = loop.create_task(self._make(key, model, make(stream), stream))
        self._making.add(making)
        making.add_done_callback(self._making.discard)
        return stream

    async def _make(
        self,
        key: bytes,
        model: str,
        made: Coroutine[Any, Any, tuple[object | None, Usage | None]],
        stream: SharedStream,
    ) -> None:
        try:
            answer, usage = await made
            stream.is_whole = True
            if answer is not None:
                answer = await self._kept(key, model, answer, usage)
        except asyncio.CancelledError:
            stream.fail(EngineUnavailable("the server is stopping", retryable=True))
            raise
        except Exception as error:  # its readers raise it
            self._forget(key, stream)
            stream.fail(error)
        else:
            self._forget(key, stream)
            stream.end(answer)

    def _forget(self, key: bytes, stream: SharedStream) -> None:
        """Let nobody join a stream any more."""
        if self._streams.get(key) is stream:
            del self._streams[key]


async def _read(stream: SharedStream, reader: StreamReader) -> None:
    async with aclosing(stream.pieces()) as pieces:
        await reader.read_pieces(pieces)
