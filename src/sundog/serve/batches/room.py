"""The room of batches: how many of their lines are worked on at once.

Owns the order in which batches that wait for room get some, and how much there is: lines that keep the loop busy would
hold up those who wait for an answer. Never starts a line.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

from sundog.serve.batches.turns import TurnPlace

MAX_LINES_AT_ONCE = 256
MIN_LINES_AT_ONCE = 4
MAX_BYTES_AT_ONCE = 64 * 2**20
LOOK_S = 0.02
NUM_TURNS = 3
"""Turns that are measured at a time."""
MAX_TURN_S = 0.002
"""A turn of the loop may take so long: everybody else waits for it."""
FEW_LINES_PER_S = 200.0
"""Fewer take less than a tenth of the loop, at half a millisecond each."""


class LineRoom:
    """This class lets lines in, of all batches together, in the order in which they ask."""

    def __init__(self, max_lines: int = 4 * MIN_LINES_AT_ONCE, max_bytes: int = MAX_BYTES_AT_ONCE) -> None:
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._has_lines = asyncio.Event()
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self.num_lines = 0
        self._num_bytes = 0
        #: Lines that were done with since `keep_pace` looked.
        self._num_left = 0

    async def enter(self, num_bytes: int) -> None:
        """Return when a line of so many bytes may be worked on. `leave` gives its room to others."""
        if self.has_room(num_bytes):
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

    def has_room(self, num_bytes: int) -> bool:
        """Return whether a line of so many bytes is let in at once."""
        return not self._waiting and self._fits(num_bytes)

    def leave(self, num_bytes: int) -> None:
        """A line is done with."""
        self.num_lines -= 1
        self._num_left += 1
        self._num_bytes -= num_bytes
        self._let_in()
        if not self.num_lines:
            self._has_lines.clear()

    def _let_in(self) -> None:
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

    async def keep_pace(self) -> None:
        """Measure how long turns of the loop take while there are lines, and let as many in as do not hold up others.
        Time of this thread is what counts: where another process has taken the processor, fewer lines are no help. Nor
        are they where hardly a line ends, and others keep the loop busy."""
        while True:
            await self._has_lines.wait()
            self._num_left, looked_at_s = 0, time.monotonic()
            await asyncio.sleep(LOOK_S)
            lines_per_s = self._num_left / (time.monotonic() - looked_at_s)
            longest_s = 0.0
            for _ in range(NUM_TURNS):
                began_s = time.thread_time()
                await asyncio.sleep(0)
                longest_s = max(longest_s, time.thread_time() - began_s)
            self._max_lines = paced(self._max_lines, longest_s, lines_per_s)
            self._let_in()

    def _fits(self, num_bytes: int) -> bool:
        """Return whether there is room. One line that is larger than all room goes alone."""
        is_small = self._num_bytes + num_bytes <= self._max_bytes or not self.num_lines
        return self.num_lines < self._max_lines and is_small

    def _take(self, num_bytes: int) -> None:
        self.num_lines += 1
        self._num_bytes += num_bytes
        self._has_lines.set()


class LinePlace:
    """This class holds the place of a line that has entered a room, and its part in the turn of its batch."""

    def __init__(self, room: LineRoom, num_bytes: int, turn: TurnPlace) -> None:
        self._room = room
        self._num_bytes = num_bytes
        self._turn = turn
        self._is_in = True

    async def wait(self, wait_s: float) -> None:
        """Return after so many seconds, in which others have the place, and once there is room again."""
        self.leave()
        await asyncio.sleep(wait_s)
        await self._turn.enter()
        await self._room.enter(self._num_bytes)
        self._is_in = True

    def leave(self) -> None:
        """The line is done with, whether it has its place or waits for it."""
        if self._is_in:
            self._is_in = False
            self._room.leave(self._num_bytes)
        self._turn.leave()


def paced(max_lines: int, turn_s: float, lines_per_s: float) -> int:
    """Return how many lines may be worked on at once from now on, where a turn of the loop has taken `turn_s` and so
    many lines have ended.

    >>> paced(100, 0.0, 900.0), paced(256, 0.0, 900.0)
    (104, 256)
    >>> paced(100, 0.003, 900.0), paced(4, 1.0, 900.0), paced(100, 0.003, 90.0)
    (75, 4, 104)
    """
    if turn_s <= MAX_TURN_S or lines_per_s < FEW_LINES_PER_S:
        return min(MAX_LINES_AT_ONCE, max_lines + 1 + max_lines // 32)
    return max(MIN_LINES_AT_ONCE, max_lines * 3 // 4)
