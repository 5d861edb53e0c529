"""The room of batches: how many of their lines are worked on at once.

Owns the order in which batches that wait for room get some. Never starts a line.
"""

from __future__ import annotations

import asyncio
from collections import deque

MAX_LINES_AT_ONCE = 256
MAX_BYTES_AT_ONCE = 64 * 2**20


class LineRoom:
    """This class lets lines in, of all batches together, in the order in which they ask."""

    def __init__(self, max_lines: int = MAX_LINES_AT_ONCE, max_bytes: int = MAX_BYTES_AT_ONCE) -> None:
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.num_lines = 0
        self._num_bytes = 0

    async def enter(self, num_bytes: int) -> None:
        """Return when a line of so many bytes may be worked on. `leave` gives its room to others."""
        if not self._waiting and self._fits(num_bytes):
            self._take(num_bytes)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((num_bytes, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave(num_bytes)
            raise

    def leave(self, num_bytes: int) -> None:
        """A line is done with."""
        self.num_lines -= 1
        self._num_bytes -= num_bytes
        while self._waiting:
            wanted, turn = self._waiting[0]
            if turn.done():
                self._waiting.popleft()
                continue
            if not self._fits(wanted):
                return
            self._waiting.popleft()
            self._take(wanted)
            turn.set_result(None)

    def _fits(self, num_bytes: int) -> bool:
        """Return whether there is room. One line that is larger than all room goes alone."""
        is_small = self._num_bytes + num_bytes <= self._max_bytes or not self.num_lines
        return self.num_lines < self._max_lines and is_small

    def _take(self, num_bytes: int) -> None:
        self.num_lines += 1
        self._num_bytes += num_bytes
