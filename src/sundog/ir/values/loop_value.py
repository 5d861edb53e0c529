"""The value of a loop some of whose steps were skipped in its last turn: templates read these as skipped steps.

Owns the carrier. Whoever copies the value, or writes it as JSON, has null in their place.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


class LoopValue(dict[str, Any]):
    """A mapping in which skipped steps are null."""

    __slots__ = ("skipped",)

    def __init__(self, value: Mapping[str, Any], skipped: Collection[str]) -> None:
        super().__init__(value)
        #: The steps that were skipped.
        self.skipped = frozenset(skipped)
