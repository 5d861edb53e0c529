"""The bodies of requests that are in memory, all together: from their first byte to the end of their request.

Owns their sum and its bound. What comes on top is refused, and never waits. Never reads a body.
"""

from __future__ import annotations

from typing import cast

from starlette.types import ASGIApp, Receive, Scope, Send

from sundog.serve.wire.errors import Refusal

RETRY_AFTER_S = 1.0
_HELD = "sundog.held_body"


class BodyRoom:
    """This class counts the bytes of all bodies of one server, of which it holds `max_bytes` at most."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0


class HeldBody:
    """The share of one request."""

    def __init__(self, room: BodyRoom) -> None:
        self._room = room
        self._num_bytes = 0

    @property
    def max_bytes(self) -> int:
        """Return how long a body can be at most."""
        return self._room.max_bytes

    def expect(self, num_bytes: int) -> None:
        """Look whether so many bytes would be taken; Refusal where they would not."""
        if self._room.num_bytes + num_bytes > self._room.max_bytes:
            what = f"the requests that this server works on have {self._room.num_bytes:,} bytes, and it holds no more"
            raise Refusal(503, f"{what} than {self.max_bytes:,}", code="overloaded", retry_after_s=RETRY_AFTER_S)

    def take(self, num_bytes: int) -> None:
        """Count some bytes more; Refusal where there is no room for them."""
        self.expect(num_bytes)
        self._room.num_bytes += num_bytes
        self._num_bytes += num_bytes

    def let_go(self) -> None:
        """Count nothing of it any more."""
        self._room.num_bytes -= self._num_bytes
        self._num_bytes = 0


class BoundedBodies:
    """This ASGI application holds the bodies of another one within a bound."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._room = BodyRoom(max_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held = scope[_HELD] = HeldBody(self._room)
        try:
            await self._app(scope, receive, send)
        finally:
            held.let_go()


def held_body(scope: Scope) -> HeldBody | None:
    """Return the share of a request; None where nothing bounds bodies, as within a process without a socket."""
    return cast(HeldBody | None, scope.get(_HELD))
