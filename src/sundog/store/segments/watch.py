"""This module finds out from outside whether the writer of a log is alive: logs are watched for a change.

Owns how long. No clock of another machine is asked.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from sundog.store.segments.log import SegmentLog

WATCH_S = 12.0
"""For so long a log is watched for a sign of life of its writer: four times the time between two of them."""
_LOOK_EVERY_S = 1.0


def watched_alive(logs: Sequence[tuple[SegmentLog, int]]) -> set[str]:
    """Return the names of those logs that somebody writes to, all watched at once. Each comes with the number of its
    first segment that nobody has seen."""
    first = {log.name: log.sign_of_life() for log, _ in logs}
    alive: set[str] = set()
    end_s = time.monotonic() + WATCH_S
    while len(alive) < len(logs) and time.monotonic() < end_s:
        time.sleep(_LOOK_EVERY_S)
        for log, next_number in logs:
            is_seen = log.name in alive or log.sign_of_life() != first[log.name]
            if is_seen or log.segment(next_number) is not None:
                alive.add(log.name)
    return alive
