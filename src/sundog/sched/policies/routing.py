"""Routing: which replica a request goes to. Filters rule out, scores in [0, 1] compare. Pure."""

from __future__ import annotations

from sundog.sched.views import ReplicaView, RequestView, SchedView

SLACK = 0.25
"""A share of a replica's slots or KV tokens."""
WORTH_FOLLOWING = 0.5
"""A share of a prompt's blocks."""


def within_load_bound(request: RequestView, replica: ReplicaView, sched: SchedView) -> bool:
    """No replica has more than a quarter of its capacity in requests beyond what the emptiest one has.

    So affinity never piles work up on one replica while others idle (consistent hashing with bounded loads, arXiv
    1608.01350, with a difference in place of a ratio, so that it also holds when replicas are nearly empty). Loses the
    cached prefix of what it sends elsewhere.
    """
    return replica.load <= sched.least_load + SLACK


def least_outstanding(request: RequestView, replica: ReplicaView, sched: SchedView) -> float:
    """The emptiest replica: 1 with nothing outstanding, 1/2 when what is outstanding fills it."""
    return 1.0 / (1.0 + replica.load)


def prefix_affinity(request: RequestView, replica: ReplicaView, sched: SchedView) -> float:
    """The replica that holds, or computes, most of the prompt already, if that is half of it or more.

    Less is the part that all prompts of a flow begin with: following it sends everything to one replica (modelled on
    ten rows that share nothing else, 3 % of the time).
    """
    key = request.prefix_key
    share = replica.prefixes.num_known_blocks(key) / len(key) if key else 0.0
    return share if share >= WORTH_FOLLOWING else 0.0


def not_where_it_failed(request: RequestView, replica: ReplicaView, sched: SchedView) -> float:
    """Another replica than those where an attempt failed."""
    return 0.0 if replica.replica_id in request.failed_replicas else 1.0
