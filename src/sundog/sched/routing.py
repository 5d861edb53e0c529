"""Routing: which replica a request goes to. Filters rule out, scores in [0, 1] compare. Pure."""

from __future__ import annotations

from sundog.sched.views import ReplicaView, RequestView, SchedView


def least_outstanding(request: RequestView, replica: ReplicaView, sched: SchedView) -> float:
    """The emptiest replica, by the share of its slots that requests have or wait for."""
    return max(0.0, 1.0 - (replica.num_running + replica.num_parked) / replica.max_concurrency)


def prefix_affinity(request: RequestView, replica: ReplicaView, sched: SchedView) -> float:
    """The replica that holds most of the prompt already."""
    key = request.prefix_key
    return replica.prefixes.num_warm_blocks(key) / len(key) if key else 0.0


def not_where_it_failed(request: RequestView, replica: ReplicaView, sched: SchedView) -> float:
    """Another replica than those where an attempt failed."""
    return 0.0 if replica.replica_id in request.failed_replicas else 1.0
