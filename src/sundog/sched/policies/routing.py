"""Routing: which replica a request goes to. Filters rule out, scores in [0, 1] compare. Pure."""

from __future__ import annotations

from sundog.sched.views import ReplicaView, RequestView, SchedView

SLACK = 0.25
"""A share of a replica's slots or KV tokens."""
WORTH_FOLLOWING = 0.5
"""A share of a prompt's blocks."""
KV_HALF_LIFE_S = 300.0
"""A guess: hosted caches of prompts keep an idle one for five minutes."""


def within_load_bound(request: RequestView, replica: ReplicaView, sched: SchedView) -> bool:
    """Rule out a replica that has more than a quarter of its capacity in requests beyond what the emptiest one has.

    So affinity never piles work up on one replica while others idle (consistent hashing with bounded loads, arXiv
    1608.01350, with a difference in place of a ratio, so that it also holds when replicas are nearly empty). Loses the
    cached prefix of what it sends elsewhere.

    >>> busy = ReplicaView("gpu/0", "gpu", max_concurrency=8, num_running=5)
    >>> request = RequestView("r", "gpu")
    >>> [within_load_bound(request, busy, SchedView(least_load=load)) for load in (0.5, 0.25)]
    [True, False]
    """
    return replica.load <= sched.least_load + SLACK


def least_outstanding(request: RequestView, replica: ReplicaView, sched: SchedView) -> float:
    """Prefer the emptiest replica: 1 with nothing outstanding, 1/2 when what is outstanding fills it.

    >>> request = RequestView("r", "gpu")
    >>> replicas = [ReplicaView("gpu/0", "gpu", max_concurrency=4, num_running=num) for num in (0, 4)]
    >>> [least_outstanding(request, replica, SchedView()) for replica in replicas]
    [1.0, 0.5]
    """
    return 1.0 / (1.0 + replica.load)


def prefix_affinity(request: RequestView, replica: ReplicaView, sched: SchedView) -> float:
    """Prefer the replica that holds, or computes, most of the prompt already, if that is half of it or more.

    Less is the part that all prompts of a flow begin with: following it sends everything to one replica (modelled on
    ten rows that share nothing else, 3 % of the time).

    >>> from sundog.sched.books.prefix_index import PrefixIndex
    >>> replica = ReplicaView("gpu/0", "gpu", prefixes=PrefixIndex(100))
    >>> _ = replica.prefixes.begin((1, 2, 3), "another")
    >>> keys = [(1, 2, 3, 4), (1, 7, 8, 9)]
    >>> [prefix_affinity(RequestView("r", "gpu", prefix_key=key), replica, SchedView()) for key in keys]
    [0.75, 0.0]
    """
    key = request.prefix_key
    share = replica.prefixes.num_known_blocks(key) / len(key) if key else 0.0
    return share if share >= WORTH_FOLLOWING else 0.0


def session_affinity(request: RequestView, replica: ReplicaView, sched: SchedView) -> float:
    """Prefer the replica where the last call of the request's program ran, the less the longer that is ago: 1 while or
    right after it ran, 1/2 after five minutes.

    So a program finds its KV blocks again where its prompts tell nothing. SAGA (arXiv 2605.00528) has the same with a
    bound on load, which is a filter here. Loses where programs are unlike each other: what came to a replica stays
    there. A request on its own prefers none.

    >>> from sundog.sched.views import WorkflowView
    >>> program = WorkflowView("p", 0.0, last_end_s=100.0, replica_ids={"gpu": "gpu/1"})
    >>> sched = SchedView(time_s=400.0, workflows={"p": program})
    >>> request = RequestView("r", "gpu", workflow_id="p")
    >>> [session_affinity(request, ReplicaView(name, "gpu"), sched) for name in ("gpu/0", "gpu/1")]
    [0.0, 0.5]
    """
    program = sched.workflows.get(request.workflow_id)
    if program is None or program.replica_ids.get(request.pool) != replica.replica_id:
        return 0.0
    away_s = 0.0 if program.last_end_s is None else sched.time_s - program.last_end_s
    return float(0.5 ** (away_s / KV_HALF_LIFE_S))


def not_where_it_failed(request: RequestView, replica: ReplicaView, sched: SchedView) -> float:
    """Prefer a replica where no attempt of the request has failed.

    >>> request = RequestView("r", "gpu", failed_replicas=("gpu/0",))
    >>> [not_where_it_failed(request, ReplicaView(name, "gpu"), SchedView()) for name in ("gpu/0", "gpu/1")]
    [0.0, 1.0]
    """
    return 0.0 if replica.replica_id in request.failed_replicas else 1.0


def freest_takes_over(request: RequestView, source: ReplicaView, target: ReplicaView, sched: SchedView) -> bool:
    """Move a waiting request from the fullest replica to the emptiest, where that narrows the gap between them.

    After Llumnix (Sun et al., OSDI 2024), which reschedules between the instances of least and most freeness. Freeness
    there is free KV blocks, less those that waiting requests want, for each request; here it is the load, of slots or
    KV tokens, which counts both. Only requests that wait move: they have no KV blocks, so a move costs nothing. Left
    out are the live migration of running requests, for defragmentation and for priorities, and scaling by freeness.
    Loses the prefix that a request was sent to a replica for.

    >>> full = ReplicaView("gpu/0", "gpu", max_concurrency=4, num_running=4, num_waiting=1)
    >>> empty = ReplicaView("gpu/1", "gpu", max_concurrency=4, num_running=1)
    >>> freest_takes_over(RequestView("r", "gpu"), full, empty, SchedView())
    True
    """
    return target.load < source.load
