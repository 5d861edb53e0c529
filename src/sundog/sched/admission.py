"""Admission: may this request start on this replica now. Pure.

The concurrency limit is the core's own rule (no policy lifts it); these add to it.
"""

from __future__ import annotations

from sundog.sched.policy import Admitted, Deferred
from sundog.sched.views import ReplicaView, RequestView, SchedView

ADMITTED = Admitted()
NO_ROOM = Deferred()
CACHED_PROMPTS_PER_SLOT = 4


def within_token_budget(request: RequestView, replica: ReplicaView, sched: SchedView) -> Admitted | Deferred:
    """Predicted KV peak stays within the replica's budget; an idle replica takes anything, or nothing would move.

    A prefix that several requests share is counted once, as it is held once.
    """
    limit = replica.max_tokens_in_flight
    if limit is None or replica.num_running == 0:
        return ADMITTED
    num_further = replica.running.num_further_tokens(
        request.prefix_key, request.num_prompt_tokens, request.num_expected_output_tokens
    )
    return ADMITTED if replica.running.num_tokens + num_further <= limit else NO_ROOM


def promised_slots_are_kept(request: RequestView, replica: ReplicaView, sched: SchedView) -> Admitted | Deferred:
    """Where the cache is small, no new row takes a slot that is promised: to an open row, whose next call is about to
    come, or to a request that waits for the prefix that another one computes. They will read KV blocks that the new
    row's would push out of the cache.

    Small: it does not hold a prompt such as this for four times the slots (what a prompt does not share passes through
    the cache too). Modelled on 102 to 600 rows of three steps, six rows to a document (benchmarks/prefix_order.py):
    with a cache for a twentieth of the prompt tokens nothing is computed twice, where 1.01 to 1.3 times as much was
    without this rule. Loses a slot for the moment between two steps, so it rests while nothing is evicted at all.
    """
    if sched.is_roomy or request.is_successor or replica.num_running == 0:
        return ADMITTED
    num_prompt_blocks = CACHED_PROMPTS_PER_SLOT * replica.max_concurrency * len(request.prefix_key)
    num_taken = replica.num_running + replica.num_parked + replica.num_open_rows
    is_small = num_prompt_blocks > replica.prefixes.max_blocks
    return NO_ROOM if is_small and num_taken >= replica.max_concurrency else ADMITTED


def one_warms_the_prefix(request: RequestView, replica: ReplicaView, sched: SchedView) -> Admitted | Deferred:
    """While another request computes this one's prefix, wait for it instead of computing the prefix again.

    Measured on openvino-genai: 64 requests with one cold prefix, sent at once, share nothing; one first, then
    the rest, share all of it. Loses one prefill's time when the shared prefix is short against the rest. vLLM lets
    requests share blocks that are still being computed: there nobody waits.
    """
    if replica.shares_cold_prefixes:
        return ADMITTED
    warming = replica.prefixes.computing(request.prefix_key)
    return ADMITTED if warming is None else Deferred(until=warming)
