"""Functions of the flows that these tests run."""

from __future__ import annotations

import asyncio


async def nap(seconds: float) -> float:
    """Sleep on the running loop, which costs nothing in virtual time."""
    await asyncio.sleep(seconds)
    return seconds
