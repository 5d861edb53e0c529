"""The end of an answer at a text that its caller named.

Owns what of a text in pieces is held back because it may begin such a text. Never knows where the pieces come from.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopScanner:
    """Cuts a text that comes in pieces at the first of `stops`, which stays out of it."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""

    def feed(self, piece: str, *, is_last: bool) -> tuple[str, bool]:
        """Return the text that may go out now, and whether a stop was found; what may begin a stop is held back."""
        text = self._held + piece
        found = [position for stop in self._stops if (position := text.find(stop)) >= 0]
        if found:
            self._held = ""
            return text[: min(found)], True
        num_held = 0 if is_last else max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - num_held :]
        return text[: len(text) - num_held], False


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at the end of `text` may begin `stop`."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
