"""Requests that wait at a replica until another one has computed the prefix that they share.

Owns who waits for whom, and the counts of replicas and pools. Never decides to defer: admission does.
"""

from __future__ import annotations

from sundog.sched.books.pool import Pool
from sundog.sched.views import ReplicaView, RequestView


class ParkingBook:
    """Parked requests by the id of the request whose prefill, or end, they wait for, its holder."""

    def __init__(self, pools: dict[str, Pool], replicas: dict[str, ReplicaView]) -> None:
        self._pools = pools
        self._replicas = replicas
        self._by_holder: dict[str, list[RequestView]] = {}

    def park(self, request: RequestView, replica: ReplicaView, holder: str) -> None:
        """Let `request` wait at `replica` until `holder` has computed the prefix that they share."""
        self._by_holder.setdefault(holder, []).append(request)
        request.parked_at = replica.replica_id
        replica.queue(request)
        replica.num_parked += 1
        self._pools[request.pool].num_parked += 1

    def leave_all(self, holder: str) -> list[RequestView]:
        """Take out all that wait for `holder`."""
        group = self._by_holder.pop(holder, [])
        for request in group:
            self._leave(request)
        return group

    def forget(self, request: RequestView) -> None:
        """Take one out, if it is here. Rare, so linear."""
        for group in self._by_holder.values():
            if request in group:
                group.remove(request)
                self._leave(request)

    def request_ids(self) -> list[str]:
        return [request.request_id for group in self._by_holder.values() for request in group]

    def holders(self) -> list[str]:
        return list(self._by_holder)

    def _leave(self, request: RequestView) -> None:
        assert request.parked_at is not None, f"{request.request_id} is not parked"
        replica = self._replicas[request.parked_at]
        replica.unqueue(request)
        replica.num_parked -= 1
        self._pools[request.pool].num_parked -= 1
        request.parked_at = None
