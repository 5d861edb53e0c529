"""Retention: how long KV blocks are kept for a workflow between two calls, and which blocks go first. Pure.

Kept is a wish: where room is needed and nothing else is left, kept blocks go too.
"""

from __future__ import annotations

from sundog.sched.books.histories import SampleHistory
from sundog.sched.views import BlockView, ReplicaView, SchedView, WorkflowView

ALL_TOOLS = ""
MIN_TOOL_SAMPLES = 20
COLD_S = 2.0
MAX_TOLD_S = 600.0


def nothing_is_retained(workflow: WorkflowView, replica: ReplicaView, sched: SchedView) -> float:
    """0 s, as vLLM: blocks stay until others need the room.

    Loses under memory pressure: while a tool runs, new prompts push out what the next call would read.
    """
    return 0.0


def continuum_ttl(workflow: WorkflowView, replica: ReplicaView, sched: SchedView) -> float:
    """Continuum (arXiv 2511.02230): the time t that maximises P(tool ends within t) * B - cost * t over the durations
    seen of this tool, or of all tools while it has fewer than 20; 2 s before that.

    B, in seconds, is what a call that finds its blocks saves: their prefill, and the wait of those that come back to
    nothing, as far as turns done tell how few are left. The paper's cost is 1; here a second of keeping costs the
    share of the cache that is kept, for each request that waits, so that seconds are weighed against seconds: where
    nobody waits, keeping costs nothing and the longest duration seen is the answer.
    Loses under heavy growth of what runs, which takes the kept blocks all the same, and with tools whose durations have
    two very different scales and no sign of which one it will be.
    """
    times_s = _tool_times_s(workflow.tool, sched)
    if times_s is None:
        return COLD_S
    benefit_s = workflow.num_held_tokens * sched.prefill_token_s - sched.turns_correlation * sched.requeue_s
    limit = replica.max_tokens_in_flight
    cost = 1.0 if limit is None else sched.num_waiting * workflow.num_held_tokens / limit
    best_s = best_utility_s = 0.0
    for number, time_s in enumerate(times_s.ordered, start=1):
        utility_s = number / len(times_s) * benefit_s - cost * time_s
        if utility_s > best_utility_s:
            best_s, best_utility_s = time_s, utility_s
    return best_s


def while_use_is_told(workflow: WorkflowView, replica: ReplicaView, sched: SchedView) -> float:
    """KVFlow (NeurIPS 2025): blocks that the plan will use again are kept until it does; which of them go first under
    pressure is for `farthest_use_first` to say. At most 10 minutes, for a workflow that is never heard of again.

    Loses where the plan is wrong: what it names is kept in place of what is used.
    """
    return 0.0 if workflow.steps_to_next_use is None else MAX_TOLD_S


def _tool_times_s(tool: str, sched: SchedView) -> SampleHistory | None:
    for name in (tool, ALL_TOOLS):
        times_s = sched.tool_times_s.get(name)
        if times_s is not None and len(times_s) >= MIN_TOOL_SAMPLES:
            return times_s
    return None


def least_recently_used(block: BlockView, sched: SchedView) -> tuple[float, ...]:
    """Rank as vLLM: what was used longest ago first; of one prompt, the end first, since a prefix is of use without it.

    Loses where use comes in cycles longer than the cache: what is needed next was used longest ago.
    """
    return (block.last_used_s, -block.depth)


def latest_program_first(block: BlockView, sched: SchedView) -> tuple[float, ...]:
    """Continuum (arXiv 2511.02230) under pressure: what nobody retains, least recently used first; then, of what is
    retained, the blocks of the program that arrived last, so that the oldest programs keep theirs and end.

    Loses where the last program would have come back soonest.
    """
    workflow = sched.workflows.get(block.workflow_id)
    if workflow is None or block.retained_until_s <= sched.time_s:
        return (0.0, *least_recently_used(block, sched))
    return (1.0, -workflow.arrival_s, *least_recently_used(block, sched))


def farthest_use_first(block: BlockView, sched: SchedView) -> tuple[float, ...]:
    """KVFlow (NeurIPS 2025): blocks with most steps until their next use go first, those of which no use is known
    before all others, least recently used first.

    Loses where steps take very different times: a step away may be a minute away. Traffic that tells nothing loses its
    blocks to traffic that does.
    """
    steps = float("inf") if block.steps_to_next_use is None else block.steps_to_next_use
    return (-steps, *least_recently_used(block, sched))
