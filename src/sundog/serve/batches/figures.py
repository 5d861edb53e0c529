"""The figures of batches, all since the start of the server.

Owns the counts. Metrics read them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

LineOutcome = Literal["completed", "failed", "expired"]


@dataclass(slots=True)
class BatchFigures:
    """This class counts batches and their lines."""

    #: Batches that have not ended.
    num_open: int = 0
    #: Lines that are worked on now, or wait to be tried again.
    num_lines_in_flight: int = 0
    #: Lines that have ended, by LineOutcome.
    num_ended_lines: Counter[str] = field(default_factory=Counter)
