"""Calls in flight, and those that wait for an equal one.

Owns the result's way to them. Never runs a call.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Generic, TypeVar

from sundog.errors import LimitReached

T = TypeVar("T")


class LeaderLeft(Exception):
    """Raised for those who joined a call that was cancelled, or found no room in its limits;
    caught by the dispatcher, where each looks again."""


class Leader(Generic[T]):
    """A call in flight that equal ones may join, as a context: what leaves it is their failure too. Few are joined, so
    only those have a future."""

    __slots__ = ("_future", "_in_flight", "_key")

    def __init__(self, in_flight: dict[bytes, Leader[T]], key: bytes) -> None:
        self._in_flight = in_flight
        self._key = key
        self._future: asyncio.Future[T] | None = None

    def __enter__(self) -> Leader[T]:
        self._in_flight[self._key] = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del self._in_flight[self._key]
        if error is not None and self._future is not None:
            # Nobody waits any more for the row whose call it was, or its limits let no call start. That says nothing
            # about those who joined.
            has_left = isinstance(error, asyncio.CancelledError | LimitReached)
            self._future.set_exception(LeaderLeft() if has_left else error)
            self._future.exception()

    def answer(self) -> asyncio.Future[T]:
        """Return the call's answer, or its failure, for one more that waits; one who stops waiting disturbs nobody."""
        if self._future is None:
            self._future = asyncio.get_running_loop().create_future()
        return asyncio.shield(self._future)

    def succeed(self, answer: T) -> None:
        """Give the answer to those that have joined."""
        if self._future is not None:
            self._future.set_result(answer)


class InFlight(Generic[T]):
    """The calls in flight of one process, by key."""

    def __init__(self) -> None:
        self._leaders: dict[bytes, Leader[T]] = {}

    def get(self, key: bytes) -> Leader[T] | None:
        """Return the call that an equal one may join."""
        return self._leaders.get(key)

    def leading(self, key: bytes) -> Leader[T]:
        """Return the context of a call that others may join."""
        return Leader(self._leaders, key)
