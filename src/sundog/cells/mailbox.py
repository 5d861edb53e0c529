"""A mailbox between threads: any thread puts, one coroutine of one loop takes.

Owns nothing else.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Items in the order in which they were put, until they are taken."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: list[T] = []
        self._wake: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def put(self, *items: T) -> None:
        """Put something in; whoever waits for it is woken."""
        with self._lock:
            self._items += items
            wake = self._wake
        if wake is not None and items:
            loop, event = wake
            loop.call_soon_threadsafe(event.set)

    async def take(self, timeout_s: float) -> tuple[T, ...]:
        """Return all that is there, once there is something; nothing after `timeout_s` seconds without."""
        event = asyncio.Event()
        with self._lock:
            if self._items:
                return self._taken()
            self._wake = asyncio.get_running_loop(), event
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
        except TimeoutError:
            pass
        with self._lock:
            self._wake = None
            return self._taken()

    def _taken(self) -> tuple[T, ...]:
        items, self._items = tuple(self._items), []
        return items
