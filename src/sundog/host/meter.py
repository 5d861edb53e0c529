"""The time that steps take, measured while a run is under way.

Owns sums of attempts and of the time in which replicas had something to do. Never reads a clock; times are handed in.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

MIN_CALLS = 20
MIN_SHARE = 0.05
"""A share of the rows: what the first calls of a step take says little of the rest."""


class Meter:
    """`begin` and `end` bracket every attempt at a replica."""

    def __init__(self) -> None:
        self._running: dict[str, int] = defaultdict(int)
        self._since_s: dict[str, float] = {}
        self._busy_s: dict[str, float] = defaultdict(float)
        self._work_s: dict[str, float] = defaultdict(float)
        self._replicas: dict[str, set[str]] = defaultdict(set)
        self._step_s: dict[str, float] = defaultdict(float)
        self._num_calls: Counter[str] = Counter()
        self._pools: dict[str, str] = {}

    def begin(self, pool: str, replica_id: str, time_s: float) -> None:
        """Note that an attempt at a replica of `pool` has begun."""
        num_running = self._running[replica_id]
        if not num_running:
            self._replicas[pool].add(replica_id)
            self._since_s[replica_id] = time_s
        self._running[replica_id] = num_running + 1

    def end(self, pool: str, replica_id: str, step: str, began_s: float, time_s: float) -> None:
        """Note that an attempt has ended, as a success or not, that began at `began_s`."""
        self._pools[step] = pool
        self._num_calls[step] += 1
        self._step_s[step] += time_s - began_s
        self._work_s[replica_id] += time_s - began_s
        self._running[replica_id] -= 1
        if not self._running[replica_id]:
            self._busy_s[replica_id] += time_s - self._since_s[replica_id]

    def batch_seconds(self, shares_left: Mapping[str, float], time_s: float) -> dict[str, float]:
        """Return by step the seconds of one replica for the whole batch: those spent so far over the share of rows that
        have passed. `shares_left`: of the rows, by step. Steps of which too little has run are left out."""
        found: dict[str, float] = {}
        for step, num_calls in self._num_calls.items():
            passed = 1.0 - shares_left[step]
            if num_calls >= MIN_CALLS and passed >= MIN_SHARE:
                found[step] = self._step_s[step] / self._concurrency(self._pools[step], time_s) / passed
        return found

    def _concurrency(self, pool: str, time_s: float) -> float:
        """The mean number of calls that a replica of the pool runs at once, while it runs any."""
        replicas = self._replicas[pool]
        work_s = sum(self._work_s[replica_id] for replica_id in replicas)
        now_s = sum(time_s - self._since_s[replica_id] for replica_id in replicas if self._running[replica_id])
        busy_s = sum(self._busy_s[replica_id] for replica_id in replicas) + now_s
        return max(1.0, work_s / busy_s) if busy_s else 1.0
