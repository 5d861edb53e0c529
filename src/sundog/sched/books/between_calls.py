"""Workflows between two calls: where the last one ran, so that the next finds its KV blocks and a slot.

Owns these places and the replicas' counts of them. Never decides what they are worth: admission does.
"""

from __future__ import annotations

from sundog.sched.views import ReplicaView, RequestView


class BetweenCalls:
    """A workflow is between two calls of a pool from the end of one that has a successor until the next arrives, or is
    known not to come. A request on its own has no workflow."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str], tuple[ReplicaView, tuple[int, ...]]] = {}

    def open(self, request: RequestView, replica: ReplicaView) -> None:
        """A call has ended on `replica`; its workflow will ask again."""
        if not request.workflow_id:
            return
        self.close(request.pool, request.workflow_id)
        self._places[request.pool, request.workflow_id] = replica, request.prefix_key
        replica.num_open_workflows += 1

    def close(self, pool: str, workflow_id: str) -> tuple[int, ...] | None:
        """Return the prefix key of the workflow's last call; None if it was not between two calls."""
        place = self._places.pop((pool, workflow_id), None)
        if place is None:
            return None
        replica, last_key = place
        replica.num_open_workflows -= 1
        return last_key

    def forget_replica(self, replica: ReplicaView) -> None:
        for place in [place for place, (where, _) in self._places.items() if where is replica]:
            self.close(*place)

    def num_at(self, replica: ReplicaView) -> int:
        """Return how many have had their last call on `replica`."""
        return sum(one is replica for one, _ in self._places.values())
