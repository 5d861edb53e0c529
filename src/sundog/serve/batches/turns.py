"""The turns of batches: how many of them are worked on at once.

Owns when a batch has one: while it reads its lines or works on one, and not while all of them wait. Starts none.
"""

from __future__ import annotations

import asyncio


class BatchTurn:
    """This class holds one of `turns` for a batch, for as long as somebody of it is at work."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self._taking = asyncio.Lock()
        self._num_at_work = 0
        self.is_held = False

    async def join(self) -> None:
        """Return when the batch has a turn; it stays until all who have joined have left."""
        self._num_at_work += 1
        try:
            if not self.is_held:
                async with self._taking:
                    if not self.is_held:
                        await self._turns.acquire()
                        self.is_held = True
        except BaseException:
            self.leave()
            raise

    def leave(self) -> None:
        """One who has joined does nothing for now."""
        self._num_at_work -= 1
        if self.is_held and not self._num_at_work:
            self.is_held = False
            self._turns.release()


class TurnPlace:
    """This class holds the place of one who works for a batch: of a line, or of whoever reads them."""

    def __init__(self, turn: BatchTurn) -> None:
        self._turn = turn
        self._is_in = False

    async def enter(self) -> None:
        """Return when the batch has a turn."""
        if not self._is_in:
            await self._turn.join()
            self._is_in = True

    def leave(self) -> None:
        """Do nothing for now, or any more."""
        if self._is_in:
            self._is_in = False
            self._turn.leave()
