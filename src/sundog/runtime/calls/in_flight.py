"""A call in flight, and those that wait for it.

Owns the result's way to them. Never runs a call.
"""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """A call in flight that equal ones may join. Few are joined, so only those have a future."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[T] | None = None

    def future(self) -> asyncio.Future[T]:
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        return self._future

    def succeed(self, answer: T) -> None:
        if self._future is not None:
            self._future.set_result(answer)

    def fail(self, error: BaseException) -> None:
        if self._future is not None:
            self._future.set_exception(error)
            self._future.exception()
