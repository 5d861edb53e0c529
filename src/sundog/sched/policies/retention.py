"""Retention: how long KV blocks are kept for a workflow between two calls, and which blocks go first. Pure.

Kept is a wish: where room is needed and nothing else is left, kept blocks go too.
"""

from __future__ import annotations

from sundog.sched.books.samples import RecentSamples
from sundog.sched.views import BlockView, ReplicaView, SchedView, WorkflowView

ALL_TOOLS = ""
MIN_TOOL_SAMPLES = 20
COLD_S = 2.0
MAX_TOLD_S = 600.0
PAUSE_FACTOR = 2.0
"""The pause that is told is a mean, and half of all pauses may be longer."""


def nothing_is_retained(workflow: WorkflowView, replica: ReplicaView, sched: SchedView) -> float:
    """Keep nothing, as vLLM: blocks stay until others need the room.

    Loses under memory pressure: while a tool runs, new prompts push out what the next call would read.

    >>> nothing_is_retained(WorkflowView("w", arrival_s=0.0), ReplicaView("gpu/0", "gpu"), SchedView())
    0.0
    """
    return 0.0


def continuum_ttl(workflow: WorkflowView, replica: ReplicaView, sched: SchedView) -> float:
    """Keep blocks as Continuum does (arXiv 2511.02230): for the time t that maximises P(tool ends within t) * B - cost
    * t over the durations seen of this tool, or of all tools while it has fewer than 20; before that for twice the
    pause that was told, at most 10 minutes, or 2 s.

    B, in seconds, is what a call that finds its blocks saves: their prefill, and the wait of those that come back to
    nothing, as far as turns done tell how few are left. The paper's cost is 1; here a second of keeping costs the share
    of the cache that is kept, for each request that waits, so that seconds are weighed against seconds: where nobody
    waits, keeping costs nothing and the longest duration seen is the answer. Loses under heavy growth of what runs,
    which takes the kept blocks all the same, and with tools whose durations have two very different scales and no sign
    of which one it will be.

    >>> times_s = RecentSamples(max_samples=100)
    >>> for time_s in [1.0] * 19 + [50.0]:
    ...     times_s.add(time_s)
    >>> busy = SchedView(prefill_token_s=0.001, tool_times_s={"search": times_s}, num_queued=4)
    >>> workflow = WorkflowView("w", arrival_s=0.0, tool="search", num_held_tokens=4000)
    >>> replica = ReplicaView("gpu/0", "gpu", max_tokens_in_flight=16000)
    >>> continuum_ttl(workflow, replica, busy)
    1.0
    >>> continuum_ttl(workflow, replica, SchedView())  # no duration is known
    2.0
    >>> workflow.expected_pause_s = 7.0
    >>> continuum_ttl(workflow, replica, SchedView())
    14.0
    """
    times_s = _tool_times_s(workflow.tool, sched)
    if times_s is None:
        told_s = workflow.expected_pause_s
        return COLD_S if told_s is None else min(MAX_TOLD_S, PAUSE_FACTOR * told_s)
    benefit_s = workflow.num_held_tokens * sched.prefill_token_s - sched.turns_correlation * sched.requeue_s
    limit = replica.max_tokens_in_flight
    cost = 1.0 if limit is None else sched.num_queued * workflow.num_held_tokens / limit
    best_s = best_utility_s = 0.0
    for number, time_s in enumerate(times_s.ordered, start=1):
        utility_s = number / len(times_s) * benefit_s - cost * time_s
        if utility_s > best_utility_s:
            best_s, best_utility_s = time_s, utility_s
    return best_s


def while_use_is_told(workflow: WorkflowView, replica: ReplicaView, sched: SchedView) -> float:
    """Keep blocks as KVFlow does (NeurIPS 2025): those that the plan will use again are kept until it does; which of
    them go first under pressure is for `farthest_use_first` to say. At most 10 minutes, for a workflow that is never
    heard of again.

    Loses where the plan is wrong: what it names is kept in place of what is used.

    >>> replica = ReplicaView("gpu/0", "gpu")
    >>> while_use_is_told(WorkflowView("w", arrival_s=0.0, steps_to_next_use=2.0), replica, SchedView())
    600.0
    >>> while_use_is_told(WorkflowView("w", arrival_s=0.0), replica, SchedView())
    0.0
    """
    return 0.0 if workflow.steps_to_next_use is None else MAX_TOLD_S


def _tool_times_s(tool: str, sched: SchedView) -> RecentSamples | None:
    for name in (tool, ALL_TOOLS):
        times_s = sched.tool_times_s.get(name)
        if times_s is not None and len(times_s) >= MIN_TOOL_SAMPLES:
            return times_s
    return None


def least_recently_used(block: BlockView, sched: SchedView) -> tuple[float, ...]:
    """Rank as vLLM: what was used longest ago first; of one prompt, the end first, since a prefix is of use without it.

    Loses where use comes in cycles longer than the cache: what is needed next was used longest ago.

    >>> blocks = [BlockView(last_used_s=9.0), BlockView(last_used_s=5.0, depth=0), BlockView(last_used_s=5.0, depth=3)]
    >>> [(one.last_used_s, one.depth) for one in sorted(blocks, key=lambda one: least_recently_used(one, SchedView()))]
    [(5.0, 3), (5.0, 0), (9.0, 0)]
    """
    return (block.last_used_s, -block.depth)


def latest_program_first(block: BlockView, sched: SchedView) -> tuple[float, ...]:
    """Rank as Continuum does under pressure (arXiv 2511.02230): what nobody retains, least recently used first; then,
    of what is retained, the blocks of the program that arrived last, so that the oldest programs keep theirs and end.

    Loses where the last program would have come back soonest.

    >>> arrivals_s = {"old": 0.0, "new": 7.0}
    >>> sched = SchedView(time_s=10.0, workflows={name: WorkflowView(name, at_s) for name, at_s in arrivals_s.items()})
    >>> blocks = [BlockView(last_used_s=9.0, workflow_id=name, retained_until_s=60.0) for name in arrivals_s]
    >>> blocks.append(BlockView(last_used_s=9.5, workflow_id="free"))
    >>> [one.workflow_id for one in sorted(blocks, key=lambda one: latest_program_first(one, sched))]
    ['free', 'new', 'old']
    """
    workflow = sched.workflows.get(block.workflow_id)
    if workflow is None or block.retained_until_s <= sched.time_s:
        return (0.0, *least_recently_used(block, sched))
    return (1.0, -workflow.arrival_s, *least_recently_used(block, sched))


def farthest_use_first(block: BlockView, sched: SchedView) -> tuple[float, ...]:
    """Rank as KVFlow does (NeurIPS 2025): blocks with most steps until their next use go first, those of which no use
    is known before all others, least recently used first.

    Loses where steps take very different times: a step away may be a minute away. Traffic that tells nothing loses its
    blocks to traffic that does.

    >>> blocks = [BlockView(last_used_s=9.0, steps_to_next_use=steps) for steps in (1.0, 4.0, None)]
    >>> [one.steps_to_next_use for one in sorted(blocks, key=lambda one: farthest_use_first(one, SchedView()))]
    [None, 4.0, 1.0]
    """
    steps = float("inf") if block.steps_to_next_use is None else block.steps_to_next_use
    return (-steps, *least_recently_used(block, sched))
