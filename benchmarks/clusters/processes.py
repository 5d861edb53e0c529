"""The processor time of all processes that this one has started, by what they are.

Linux only: it reads /proc.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EVERY_S = 0.5
_KINDS = (
    ("cluster_runs.py", "driver"),
    ("CellActor", "cells"),
    ("OwnerActor", "owners"),
    ("clusters.ray_data", "driver"),
    ("MapWorker", "actors"),
    ("endpoint.py", "server"),
    ("ray", "Ray"),
)
"""Each by a part of its command line."""
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class ProcessorTime:
    """The processor time of this process and of those below it, those that have ended too, but for their last half
    second. A process that becomes something else, as Ray's workers do, is what it is when its time is read."""

    def __init__(self) -> None:
        self._last = {pid: seconds for pid, (_, seconds) in _processes().items()}
        self._found: dict[str, float] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> dict[str, float]:
        """Return the seconds since the begin, by kind of process."""
        self._is_over.set()
        self._thread.join()
        self._read()
        return {kind: round(seconds, 2) for kind, seconds in self._found.items() if seconds >= 0.01}

    def _watch(self) -> None:
        while not self._is_over.wait(EVERY_S):
            self._read()

    def _read(self) -> None:
        for pid, (kind, seconds) in _processes().items():
            self._found[kind] = self._found.get(kind, 0.0) + seconds - self._last.get(pid, 0.0)
            self._last[pid] = seconds


@contextmanager
def measured() -> Iterator[dict[str, float]]:
    """Give a mapping that has the processor time of what runs inside, by kind, and `wall`, once it is over."""
    found: dict[str, float] = {}
    begin_s, processor = time.monotonic(), ProcessorTime()
    try:
        yield found
    finally:
        found |= processor.end()
        found["wall"] = round(time.monotonic() - begin_s, 2)


def _processes() -> dict[int, tuple[str, float]]:
    """The kind and the processor seconds of this process and of those below it."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            parents[int(folder.name)] = int(fields[1])
            seconds[int(folder.name)] = (int(fields[11]) + int(fields[12])) * _TICK_S
    return {pid: (_kind(pid), seconds[pid]) for pid in parents if _is_below(pid, parents)}


def _is_below(pid: int, parents: dict[int, int]) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = parents.get(pid, 0)
    return False


def _kind(pid: int) -> str:
    if pid == os.getpid():
        return "benchmark"
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "ended"
    return next((kind for part, kind in _KINDS if part in command), "other")
