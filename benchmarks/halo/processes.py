"""Processor time of other processes, read from /proc: what the engines' servers took while an arm ran."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(process_ids: Iterable[int]) -> float:
    """Seconds that these processes and all below them have used so far; those that have ended do not count."""
    children: dict[int, list[int]] = defaultdict(list)
    ticks: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name, in parentheses, may hold anything.
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        process_id = int(path.parent.name)
        children[int(fields[1])].append(process_id)
        ticks[process_id] = int(fields[11]) + int(fields[12])
    found, left = 0, list(process_ids)
    while left:
        process_id = left.pop()
        found += ticks.get(process_id, 0)
        left += children[process_id]
    return found / TICKS_PER_S
