"""Connections within limits: a client that sends or reads too slowly, sends too large a head, or comes when there are
too many, is let go, and what was begun for it ends.

Owns what is noted of each connection, and how one is ended. Never reads a body; the doors do.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import unquote_to_bytes

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from sundog.serve.connections.held_bodies import BoundedBodies
from sundog.serve.connections.joined_writes import JoinedWrites, JoiningProtocol
from sundog.serve.connections.limits import ConnectionLimits, Pace
from sundog.serve.connections.refusals import (
    RefusingApp,
    head_too_large,
    not_http,
    refusal_bytes,
    too_many_connections,
    too_slow,
)
from sundog.serve.wire.errors import Refusal

log = logging.getLogger("sundog.serve")
MAX_REFUSED = 256
"""Connections beyond the limit that are told so; those that come on top are closed at once."""


class BoundedConfig(uvicorn.Config):
    """uvicorn's configuration of a server whose connections have limits."""

    def __init__(self, app: Starlette, limits: ConnectionLimits, **rest: Any) -> None:
        super().__init__(BoundedBodies(app, limits.max_bodies_bytes), http=BoundedProtocol, **rest)
        self.limits = limits


class _Ignored(list[tuple[bytes, bytes]]):
    """The headers behind a body, which nobody reads."""

    def append(self, header: tuple[bytes, bytes]) -> None:
        """Keep nothing."""


class BoundedProtocol(JoiningProtocol):
    """One connection. The server looks at it now and then."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        assert isinstance(config, BoundedConfig), "these connections have limits"
        self._limits = config.limits
        #: Bytes since the request began that comes in now.
        self._num_read = 0
        #: A request has begun to come in and is not whole; its head is not.
        self._is_in_request = self._is_in_head = False
        #: The pace of the request that comes in, None where none does.
        self._reading: Pace | None = None
        #: The pace of what is written and was not taken so far, None where there is nothing.
        self._writing: Pace | None = None
        #: When a request was first seen whose answer is there and whose body is not.
        self._lingers_since_s: float | None = None
        self._is_beyond = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Expect a request."""
        super().connection_made(transport)
        num_beyond = len(self.connections) - self._limits.max_connections
        self._is_beyond = num_beyond > 0
        self._reading = Pace(self.loop.time(), 0)
        if num_beyond > MAX_REFUSED:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what the client has sent."""
        super().data_received(data)
        self._num_read += len(data)
        if self._is_in_head and self._num_read > self._limits.max_header_bytes:
            self._refuse(head_too_large(self._limits.max_header_bytes))
        elif self._reading is None and not self._is_answering:
            # Blanks between two requests are no request, and keep no connection.
            self._reading = Pace(self.loop.time(), 0)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._num_read, self._is_in_request, self._is_in_head = 0, True, True
        self._reading = Pace(self.loop.time(), 0)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        super().on_headers_complete()
        self.headers = _Ignored()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._reading, self._is_in_request = None, False

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(not_http(msg))

    def look(self, now_s: float) -> None:
        """End the connection where its client is too slow."""
        if self._is_unread(now_s):
            self._abort("reads too slowly")
        elif self._lingers(now_s):
            self._abort("sends a body that nobody wants")
        elif self._reading is None:
            return
        elif self.flow.read_paused or (self._is_in_head and self._is_answering):
            # It is the server that takes nothing now.
            self._reading = Pace(now_s, self._num_read)
        elif self._reading.is_too_slow(now_s, self._num_read if self._is_in_request else 0, self._limits):
            self._expire()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        refusing: Any = self._refusing()
        super()._start_asgi_task(cycle, refusing or app)

    def _refusing(self) -> RefusingApp | None:
        """Return what answers in place of the application; None where that does."""
        if self._is_beyond:
            return RefusingApp(too_many_connections(self._limits.max_connections))
        num_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if num_bytes > self._limits.max_header_bytes:
            return RefusingApp(head_too_large(self._limits.max_header_bytes))
        return None

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _is_unread(self, now_s: float) -> bool:
        """Return whether what was written waits for a client that takes too little of it."""
        assert isinstance(self.transport, JoinedWrites), "writes are counted"
        num_waiting = self.transport.get_write_buffer_size()
        num_taken = self.transport.num_written - num_waiting
        if not num_waiting:
            self._writing = None
        elif self._writing is None:
            self._writing = Pace(now_s, num_taken)
        return self._writing is not None and self._writing.is_too_slow(now_s, num_taken, self._limits)

    def _lingers(self, now_s: float) -> bool:
        """Return whether a client has had the answer to a body for long, and goes on to send that."""
        is_over = self.cycle is not None and self.cycle.response_complete
        if self._reading is None or self._is_in_head or not is_over:
            self._lingers_since_s = None
        elif self._lingers_since_s is None:
            self._lingers_since_s = now_s
        return self._lingers_since_s is not None and now_s - self._lingers_since_s >= self._limits.max_linger_s

    def _expire(self) -> None:
        """End a connection whose request does not come: with an answer, where it has begun and had none."""
        if not self._is_in_request or self.transport.is_closing():
            self.transport.close()
        elif not self._is_in_head and self.cycle is not None and self.cycle.response_started:
            self._abort("sends too slowly")
        else:
            self._refuse(too_slow())

    def _refuse(self, refusal: Refusal) -> None:
        if not self.transport.is_closing():
            log.info("a connection is closed: %s", refusal.message)
            self.transport.write(refusal_bytes(refusal, self._known_path))
            self.transport.close()

    @property
    def _known_path(self) -> str:
        """Return the path of the request that comes in, "" as long as it may not be whole."""
        if not self._is_in_request or (self._is_in_head and not self.headers):
            return ""
        return unquote_to_bytes(self.url.partition(b"?")[0]).decode("latin-1")

    def _abort(self, why: str) -> None:
        log.info("a connection is closed: its client %s", why)
        self.transport.abort()


async def look_at_connections(server: uvicorn.Server, limits: ConnectionLimits) -> None:
    """End the connections of clients that are too slow, for as long as nobody cancels this."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(limits.look_s)
        now_s = loop.time()
        for one in list(server.server_state.connections):
            if isinstance(one, BoundedProtocol):
                one.look(now_s)
