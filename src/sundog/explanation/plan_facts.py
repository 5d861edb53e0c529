"""The facts that an explanation tells of a plan beside the plan itself: its pools, and why calls may be shared or not.

Owns these facts and the words of the reasons. Reads no rows.
"""

from __future__ import annotations

from sundog.batch.follower import engine_replicas
from sundog.deployment import engine_limits, pool_of, tool_limits
from sundog.ir.physical import CallExec, calls_of
from sundog.ir.pool_names import engine_pool
from sundog.present.physical_tree import PoolFacts
from sundog.session.planned_flow import PlannedFlow


def pool_facts(flow: PlannedFlow) -> list[PoolFacts]:
    """Return the pools of the plan: those of engines, then those of tools."""
    groups = {one.pool: None if one.group is None else one.group.name for one in engine_replicas(flow.plan)}
    sources = {
        engine_pool(block.name): pool.shown
        for block in flow.plan.logical.engines
        if (pool := pool_of(block)) is not None
    }
    engines = [
        PoolFacts(
            pool, num_replicas, options.max_concurrency, options.max_tokens_in_flight, groups[pool], sources.get(pool)
        )
        for pool, num_replicas, options in engine_limits(flow.plan)
    ]
    limits = flow.plan.logical.limits
    return engines + [
        PoolFacts(pool, 1, limit, is_limited=pool in limits)
        for pool, limit in tool_limits(flow.plan, flow.operators).items()
    ]


def sharing_reasons(flow: PlannedFlow) -> dict[str, str]:
    """Return why each step's calls may be shared or not, where there is something to say."""
    found = {call.name: _reason(flow, call) for call in calls_of(flow.plan.nodes)}
    return {name: reason for name, reason in found.items() if reason is not None}


def _reason(flow: PlannedFlow, call: CallExec) -> str | None:
    if call.step.share is not None:
        return f"share: {str(call.step.share).lower()}"
    traits = flow.operators[call.step.operator].traits(call.step.spec)
    if not flow.choices.rewriting.merges_calls:
        return traits.reason if call.sharing is traits.sharing else "calls are not merged"
    if call.sharing is not traits.sharing:
        return f"{traits.reason}, but this flow writes there" if traits.reason else "this flow writes there"
    return traits.reason
