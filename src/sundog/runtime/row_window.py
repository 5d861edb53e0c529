"""The rows that are worked on at once: so many, and no more than fit.

Owns how much memory a row counts for. Never knows what is done with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

MAX_BYTES = 32 * 2**20
_BYTES_OF_VALUE = 32
_BYTES_OF_TEXT = 56
_BYTES_OF_LIST = 64
_BYTES_OF_MAPPING = 200
_BYTES_OF_PLACE = 8


class RowWindow:
    """Admits at most `max_rows`, of at most MAX_BYTES together; a larger row is admitted alone."""

    def __init__(self, max_rows: int) -> None:
        self._max_rows = max_rows
        self._num_rows = 0
        self._num_bytes = 0
        self._has_room = asyncio.Event()

    async def enter(self, num_bytes: int) -> None:
        """Return when a row of `num_bytes` has been admitted. One task at a time waits here."""
        while self._num_rows and (self._num_rows >= self._max_rows or self._num_bytes + num_bytes > MAX_BYTES):
            self._has_room.clear()
            await self._has_room.wait()
        self._num_rows += 1
        self._num_bytes += num_bytes

    def leave(self, num_bytes: int) -> None:
        """Take away a row that was admitted with `num_bytes`."""
        self._num_rows -= 1
        self._num_bytes -= num_bytes
        self._has_room.set()


def bytes_of(value: Any) -> int:
    """Return about how much memory a JSON value takes in Python.

    >>> bytes_of({"id": 7, "words": ["ab", "cd"]})
    428
    """
    match value:
        case str():
            return _BYTES_OF_TEXT + len(value)
        case Mapping():
            return _BYTES_OF_MAPPING + sum(map(bytes_of, value.values()))
        case list():
            return _BYTES_OF_LIST + sum(_BYTES_OF_PLACE + bytes_of(one) for one in value)
    return _BYTES_OF_VALUE
