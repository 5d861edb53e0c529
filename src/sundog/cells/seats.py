"""The driver's books on its cells and on the buckets that they work on.

Owns what is known of each. Never tells a cell anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from sundog.cells.messages import CellEnded, CellLine
from sundog.cells.remote_feed import BucketRows
from sundog.runtime.figures.progress import Progress

COUNTED = (
    "num_done",
    "num_failed",
    "num_dropped",
    "num_not_run",
    "num_asked",
    "num_asked_by_ended",
    "num_executed",
    "num_reused",
    "num_prompt_tokens",
    "num_output_tokens",
)
"""The counts of cells that make those of the run."""


class HubBucket:
    """A bucket, and the object with its rows."""

    def __init__(self, rows: BucketRows, name: str) -> None:
        self.table = rows.table
        self.name = name
        self.is_split = rows.is_split
        self.partition = rows.partition


class CellSeat:
    """The cell that is at a place, and its line."""

    def __init__(self, place: int, name: str, line: CellLine) -> None:
        self.place = place
        self.name = name
        self.line = line
        self.progress = Progress()
        self.has_ended_part = False
        self.ended: CellEnded | None = None
        self.is_gone = asyncio.Event()


def summed(progresses: Iterable[Progress]) -> dict[str, int]:
    """Return the counts of several cells together, by name."""
    told = list(progresses)
    return {name: sum(getattr(one, name) for one in told) for name in COUNTED}
