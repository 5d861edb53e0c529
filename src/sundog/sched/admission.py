"""Admission: may this request start on this replica now. Pure.

The concurrency limit is the core's own rule (no policy lifts it); these add to it.
"""

from __future__ import annotations

from sundog.sched.policy import Admitted, Deferred
from sundog.sched.views import ReplicaView, RequestView, SchedView

ADMITTED = Admitted()
NO_ROOM = Deferred()


def within_token_budget(request: RequestView, replica: ReplicaView, sched: SchedView) -> Admitted | Deferred:
    """Predicted KV peak stays within the replica's budget; an idle replica takes anything, or nothing would move."""
    limit = replica.max_tokens_in_flight
    if limit is None or replica.num_running == 0 or replica.num_tokens_in_flight + request.num_tokens <= limit:
        return ADMITTED
    return NO_ROOM


def one_warms_the_prefix(request: RequestView, replica: ReplicaView, sched: SchedView) -> Admitted | Deferred:
    """While another request computes this one's prefix, wait for it instead of computing the prefix again.

    Measured on openvino-genai: 64 requests with one cold prefix, sent at once, share nothing; one first, then
    the rest, share all of it. Loses one prefill's time when the shared prefix is short against the rest.
    """
    warming = replica.prefixes.computing(request.prefix_key)
    return ADMITTED if warming is None else Deferred(until=warming)
