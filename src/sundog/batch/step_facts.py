"""The facts that the plan knows of each step's calls.

Owns these facts. Never knows what a policy, or an engine, does with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sundog.ir.physical import Exec, LoopExec, PhysicalPlan, calls_of
from sundog.ir.pool_names import engine_of
from sundog.sched.facts import CallFacts

TOLD = ("flow", "node", "is_last_turn", "tool", "steps_to_next_use", "num_remaining_steps", "expected_pause_s")
"""The fields of CallFacts that a plan fills."""
NO_PAUSES: Mapping[str, float] = {}


def plan_facts(plan: PhysicalPlan, pauses_s: Mapping[str, float] = NO_PAUSES) -> dict[str, CallFacts]:
    """Return `call_facts` of all steps of a plan. A row of each table is a workflow of its own."""
    found: dict[str, CallFacts] = {}
    for table in plan.tables:
        found |= call_facts(plan.logical.name, table.nodes, pauses_s)
    return found


def call_facts(flow: str, nodes: Sequence[Exec], pauses_s: Mapping[str, float] = NO_PAUSES) -> dict[str, CallFacts]:
    """Return the facts of each step of a table, whose nodes are in their order: how many calls on the same engine
    follow in its row, and the first step of another kind between them and the next one of these. `pauses_s`: seconds
    that a step takes, as earlier runs tell."""
    looped = {call.name for node in nodes if isinstance(node, LoopExec) for call in calls_of(node.body)}
    found: dict[str, CallFacts] = {}
    num_later: Counter[str] = Counter()
    # Backwards: of each pool, the first tool between here and its next call.
    next_tools: dict[str, str] = {}
    for call in reversed(list(calls_of(nodes))):
        tool = next_tools.get(call.pool, "") if num_later[call.pool] else ""
        # In a loop the same step may follow.
        is_last = not num_later[call.pool] and call.name not in looped
        found[call.name] = CallFacts(
            flow,
            call.name,
            is_last_turn=is_last,
            tool=tool,
            steps_to_next_use=None if is_last else 1,
            num_remaining_steps=None if is_last else max(1, num_later[call.pool]),
            expected_pause_s=pauses_s.get(tool),
        )
        num_later[call.pool] += 1
        next_tools[call.pool] = ""
        if engine_of(call.pool) is None:
            next_tools = dict.fromkeys(num_later, call.name) | {call.pool: ""}
    return found
