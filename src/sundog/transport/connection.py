"""One connection to a server, as aiohttp speaks on it, with less work for each piece of an answer.

Owns the clock of a server's silence: what comes in only notes the time, and one timer for a whole stretch of silence
looks at it, where aiohttp sets another timer for each piece. Never reads an answer.
"""

from __future__ import annotations

import asyncio

from aiohttp.client_proto import ResponseHandler


class WatchedConnection(ResponseHandler):
    """This class ends an exchange whose server says nothing for its `read_timeout`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        #: When the server said something last, None while nothing is expected of it.
        self._heard_s: float | None = None
        self._look_at_s = 0.0

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on where that was paused: aiohttp calls this for each piece that is taken."""
        if self._reading_paused or self._buffer_paused:
            super().resume_reading(resume_parser)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of the timer, which would keep this alive."""
        super().connection_lost(exc)
        if self._read_timeout_handle is not None:
            self._read_timeout_handle.cancel()
            self._read_timeout_handle = None

    def _drop_timeout(self) -> None:
        self._heard_s = None

    def _reschedule_timeout(self) -> None:
        timeout_s = self._read_timeout
        if not timeout_s:
            self._heard_s = None
            return
        self._heard_s = self._loop.time()
        if self._read_timeout_handle is None or self._heard_s + timeout_s < self._look_at_s:
            self._look_at(self._heard_s + timeout_s)

    def _look_at(self, at_s: float) -> None:
        if self._read_timeout_handle is not None:
            self._read_timeout_handle.cancel()
        self._look_at_s = at_s
        self._read_timeout_handle = self._loop.call_at(at_s, self._look)

    def _look(self) -> None:
        self._read_timeout_handle = None
        if self._heard_s is None or not self._read_timeout:
            return
        until_s = self._heard_s + self._read_timeout
        if self._loop.time() < until_s:
            self._look_at(until_s)
        else:
            self._on_read_timeout()
