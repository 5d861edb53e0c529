"""The line between a cell and an owner, whatever carries it.

Owns what each side may expect: words may be lost, come twice, late, or in another order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sundog.cluster.asking import OwnerReply
from sundog.cluster.owner_events import AskerBeat, BatchAsked, NewsAsked


class LineLost(Exception):
    """Raised by a line where what was said, or its reply, was lost; caught by whoever speaks, who says it again."""


class OwnerLine(Protocol):
    """One side of it is `OwnerHost`, which gives the times of what it hears; LineLost is raised by what lies between.
    StoreError, where the owner cannot work, ends the run."""

    async def ask(self, batch: BatchAsked) -> Sequence[OwnerReply]:
        """Return the answer of a batch, at once."""
        ...

    async def listen(self, asked: NewsAsked, timeout_s: float) -> Sequence[OwnerReply]:
        """Return the news of a cell as soon as there are some; nothing where there are none for so long."""
        ...

    async def beat(self, beat: AskerBeat) -> Sequence[OwnerReply]:
        """Let the owner know that a cell lives."""
        ...
