"""Streams that equal calls of models have in common while they come: each reader gets all pieces from the beginning.

Owns the pieces of one stream, and when nobody reads it any more. A reader that is slow holds up no other one, and one
that leaves ends the stream only where it was the last. Never reads a piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager

from sundog.errors import BadResponse

MAX_STREAM_BYTES = 256 * 2**20
"""The longest stream that is shared: it is in memory until it has ended."""


class SharedStream:
    """This class hands on one stream. `leave`: ends it, and lets nobody join it any more; called once at most."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self._pieces: list[bytes] = []
        #: The bytes that readers get when the stream has ended.
        self._last = b""
        self._num_bytes = 0
        self._num_readers = 0
        #: Done with the next piece, or the end; None where nobody waits for it.
        self._grown: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[object | None] = asyncio.get_running_loop().create_future()
        #: All of it has come: it is to be kept, and nobody's leaving ends that.
        self.is_whole = False
        self._is_given_up = False

    def add(self, piece: bytes) -> None:
        """Take the next bytes; BadResponse beyond what is kept in memory."""
        self._count(piece)
        self._pieces.append(piece)
        self._wake()

    def add_last(self, piece: bytes) -> None:
        """Take the bytes that say that all has come; BadResponse as of `add`. Clients leave as soon as they have read
        them, and find no answer where that has not ended: so they are handed on with the end."""
        self._count(piece)
        self._last += piece
        self.is_whole = True

    def end(self, answer: object | None) -> None:
        """The stream has ended. `answer`: what all of it says, None where nobody knows how to say it whole."""
        if self._last:
            self._pieces.append(self._last)
        self._ended.set_result(answer)
        self._wake()

    def fail(self, error: BaseException) -> None:
        """The stream has failed, for all who read it."""
        self._ended.set_exception(error)
        # Nobody may be there to hear it.
        self._ended.exception()
        self._wake()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the pieces from the beginning on, joined where several are there; raises what the stream failed
        with."""
        place = 0
        with self._reading():
            while True:
                if place < len(self._pieces):
                    some, place = self._pieces[place:], len(self._pieces)
                    yield some[0] if len(some) == 1 else b"".join(some)
                elif self._ended.done():
                    self._ended.result()
                    return
                else:
                    await self._next()

    async def answer(self) -> object | None:
        """Return what the stream says, once it has ended; raises what it failed with."""
        with self._reading():
            return await asyncio.shield(self._ended)

    def give_up(self) -> None:
        """End the stream where it is not whole."""
        if not self.is_whole and not self._ended.done() and not self._is_given_up:
            self._is_given_up = True
            self._leave()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self._num_readers += 1
        try:
            yield
        finally:
            self._num_readers -= 1
            if not self._num_readers:
                self.give_up()

    def _count(self, piece: bytes) -> None:
        self._num_bytes += len(piece)
        if self._num_bytes > MAX_STREAM_BYTES:
            raise BadResponse(f"the answer has more than {MAX_STREAM_BYTES // 2**20} MiB", hint="set max_tokens")

    async def _next(self) -> None:
        if self._grown is None:
            self._grown = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._grown)

    def _wake(self) -> None:
        if self._grown is not None:
            self._grown.set_result(None)
            self._grown = None
