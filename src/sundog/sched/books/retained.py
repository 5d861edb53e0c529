"""The KV tokens that a host believes to be kept for workflows between two calls, with where and until when.

Owns the replicas' sums of them. An engine's own books know better; a host that sends calls to engines has only this.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from sundog.sched.views import ReplicaView


@dataclass(slots=True)
class _Kept:
    replica: ReplicaView
    num_tokens: int
    until_s: float


class RetainedBook:
    """This book has at most one entry for each workflow: where its last call ran."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}
        self._ends: list[tuple[float, str]] = []

    def keep(self, workflow_id: str, replica: ReplicaView, num_tokens: int, until_s: float) -> None:
        self.release(workflow_id)
        self._kept[workflow_id] = _Kept(replica, num_tokens, until_s)
        replica.num_retained_tokens += num_tokens
        heapq.heappush(self._ends, (until_s, workflow_id))

    def release(self, workflow_id: str) -> None:
        """Its next call has started, or none will come."""
        kept = self._kept.pop(workflow_id, None)
        if kept is not None:
            kept.replica.num_retained_tokens -= kept.num_tokens

    def release_expired(self, time_s: float) -> None:
        """Release everything that was kept until `time_s` or less."""
        while self._ends and self._ends[0][0] <= time_s:
            until_s, workflow_id = heapq.heappop(self._ends)
            kept = self._kept.get(workflow_id)
            if kept is not None and kept.until_s == until_s:
                self.release(workflow_id)

    def forget_replica(self, replica: ReplicaView) -> None:
        for workflow_id in [one for one, kept in self._kept.items() if kept.replica is replica]:
            self.release(workflow_id)
