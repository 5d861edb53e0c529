"""Requests that wait for their next attempt: until when, and which of them never get one.

Owns the times. Never decides how long a back-off is: that is the policy set's `retry`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator


class DelayBook:
    """Delayed requests by the time at which they may go on."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, str]] = []
        self._num_added = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, request_id: str, until_s: float) -> None:
        self._num_added += 1
        heapq.heappush(self._entries, (until_s, self._num_added, request_id))

    def due(self, time_s: float) -> Iterator[str]:
        """Take out whose time has come, the earliest first."""
        while self._entries and self._entries[0][0] <= time_s:
            yield heapq.heappop(self._entries)[2]

    def forget(self, request_id: str) -> None:
        """Take one out, if it is here. Rare, so linear."""
        self._entries = [entry for entry in self._entries if entry[2] != request_id]
        heapq.heapify(self._entries)

    def clear(self) -> list[str]:
        """Take all out, in the order in which they would have gone on."""
        entries, self._entries = sorted(self._entries), []
        return [request_id for _, _, request_id in entries]

    def request_ids(self) -> list[str]:
        return [request_id for _, _, request_id in self._entries]


def is_too_long(retry_after_s: float | None, max_retry_wait_s: float) -> bool:
    """Return whether a server asks for a wait above the bound; a wish that is no number, or infinite, is above every
    bound."""
    return retry_after_s is not None and not retry_after_s <= max_retry_wait_s
