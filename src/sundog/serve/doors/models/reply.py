"""The answer to one client, sent piece by piece as ASGI messages, with no queue between engine and socket.

Owns whether the answer has begun: until then it may still become an error with a status of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.types import Message, Send

from sundog.live.shared_streams import SharedStream
from sundog.serve.wire.replays.joining import CompletionJoiner
from sundog.serve.wire.sse import DONE_EVENT

EVENT_STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


class Reply:
    """This class sends one answer. `headers`: those that every answer to this request has."""

    def __init__(self, send: Send, headers: Mapping[str, str]) -> None:
        self._send = send
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.has_begun = False
        #: Nothing more is sent: its client is free to go.
        self.has_ended = False
        #: The end that a stream tells itself has been sent: its client is free to go, and what comes behind it is not
        #: wanted.
        self.is_done = False

    async def whole(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        """Send an answer that is all there."""
        told = [(name.encode(), value.encode()) for name, value in headers.items()]
        told.append((b"content-length", str(len(body)).encode()))
        self.has_begun = self.has_ended = True
        await self._send({"type": "http.response.start", "status": status, "headers": [*self._headers, *told]})
        await self._send({"type": "http.response.body", "body": body})

    async def begin_stream(self) -> None:
        """Send the head of a stream, unless that was done."""
        if not self.has_begun:
            self.has_begun = True
            headers = [*self._headers, *EVENT_STREAM]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def piece(self, piece: bytes) -> None:
        """Send the next bytes of a stream."""
        self.is_done = piece.endswith(DONE_EVENT)
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def pieces(self, pieces: Iterable[bytes]) -> None:
        """Send the next events of a stream."""
        joined = b"".join(pieces)
        if joined:
            await self.piece(joined)

    async def end_stream(self) -> None:
        """End a stream."""
        self.has_ended = True
        await self._send({"type": "http.response.body", "body": b""})


class HeldReply(Reply):
    """This class holds a whole answer for whoever has asked for it, in place of a client."""

    def __init__(self) -> None:
        super().__init__(_to_nobody, {})
        self.status = 0
        self.body = b""
        #: By names in small letters.
        self.headers: Mapping[str, str] = {}

    async def whole(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.has_begun = self.has_ended = True
        self.status, self.body, self.headers = status, body, headers


class SharedReply(HeldReply):
    """This class hands the pieces of a stream to whoever shares it, and joins them into the whole answer; what is no
    stream is held."""

    def __init__(self, stream: SharedStream) -> None:
        super().__init__()
        self._stream = stream
        self._joiner = CompletionJoiner()

    async def begin_stream(self) -> None:
        self.has_begun = True

    async def piece(self, piece: bytes) -> None:
        self._joiner.feed(piece)
        self.is_done = self._joiner.is_done
        if not self.is_done:
            self._stream.add(piece)
            return
        begin = max(0, piece.rfind(b"data:"))
        if begin:
            self._stream.add(piece[:begin])
        self._stream.add_last(piece[begin:])

    async def end_stream(self) -> None:
        """Wait for nothing: the stream ends with its call."""

    def joined(self) -> Mapping[str, Any] | None:
        """Return the whole answer, None where nobody knows how to say it."""
        return self._joiner.end()


async def _to_nobody(message: Message) -> None:
    raise AssertionError("a held answer is never a stream")
