"""The answer to one client, sent piece by piece as ASGI messages, with no queue between engine and socket.

Owns whether the answer has begun: until then it may still become an error with a status of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from starlette.types import Message, Send

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


async def _to_nobody(message: Message) -> None:
    raise AssertionError("a held answer is never a stream")
