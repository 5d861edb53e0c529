"""Retention: how long KV blocks are kept for a workflow between two calls, and which blocks go first. Pure."""

from __future__ import annotations

from sundog.sched.views import BlockView, ReplicaView, SchedView, WorkflowView


def nothing_is_retained(workflow: WorkflowView, replica: ReplicaView, sched: SchedView) -> float:
    """0 s, as vLLM: blocks stay until others need the room.

    Loses under memory pressure: while a tool runs, new prompts push out what the next call would read.
    """
    return 0.0


def least_recently_used(block: BlockView, sched: SchedView) -> tuple[float, ...]:
    """As vLLM: what was used longest ago first; of one prompt, the end first, since a prefix is of use without it.

    Loses where use comes in cycles longer than the cache: what is needed next was used longest ago.
    """
    return (block.last_used_s, -block.depth)
