"""The head of the cluster as its driver sees it.

Owns when it is taken for lost, and what the run says then. Never ends a cell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeVar

from sundog.errors import RunError
from sundog.ray.connection import ANSWER_S, head_place

LOOK_EVERY_S = 2.0
LOST_AFTER_S = 30.0
"""A head that takes no connection for so long is lost. Cells work on meanwhile, and one that comes back is taken."""
T = TypeVar("T")


class HeadWatch:
    """Looks whether the head at an address takes connections. `lost_after_s`: see LOST_AFTER_S."""

    def __init__(self, address: str, lost_after_s: float = LOST_AFTER_S, look_every_s: float = LOOK_EVERY_S) -> None:
        self._address = address
        self._lost_after_s = lost_after_s
        self._look_every_s = look_every_s

    async def follow(self) -> None:
        """Return never; RunError once the head is lost."""
        missed_s: float | None = None
        while True:
            await asyncio.sleep(self._look_every_s)
            if await self._answers():
                missed_s = None
                continue
            now_s = asyncio.get_running_loop().time()
            # A driver that stood still itself has missed nothing yet.
            missed_s = now_s if missed_s is None else missed_s
            if now_s - missed_s >= self._lost_after_s:
                raise RunError(
                    f"the head of the Ray cluster at {self._address} has not answered for {now_s - missed_s:.0f} s",
                    hint="start a cluster again, and repeat the command with its address: it continues the run",
                )

    async def unless_lost(self, work: Awaitable[T]) -> T:
        """Return what comes of some work; RunError where the head is lost before."""
        working, lost = asyncio.ensure_future(work), asyncio.ensure_future(self.follow())
        try:
            await asyncio.wait([working, lost], return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                lost.result()
            return working.result()
        finally:
            lost.cancel()
            working.cancel()

    async def _answers(self) -> bool:
        place = head_place(self._address)
        assert place is not None, "Ray tells its address as host and port"
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                _, writer = await asyncio.open_connection(*place)
            writer.close()
            return True
        return False
