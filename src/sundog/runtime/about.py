"""What an engine may know of a call beyond its prompt: the envelope of docs/engines.md.

Owns its fields. Never knows what an engine does with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sundog.engines.base import Message
from sundog.ir.physical import Exec, LoopExec, calls_of
from sundog.runtime.prefix_key import prefix_key


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the plan says of a step's calls: `remaining_steps` of their row on the same engine after them, `tool` the
    first step of another kind between them and the next one of these. `may_repeat`: in a loop, so that the same step
    may follow."""

    remaining_steps: int
    tool: str = ""
    may_repeat: bool = False


def outlooks(nodes: Sequence[Exec]) -> dict[str, Outlook]:
    """Return the outlook of each step of a plan, whose nodes are in their order."""
    calls = list(calls_of(nodes))
    looped = {call.name for node in nodes if isinstance(node, LoopExec) for call in calls_of(node.body)}
    found: dict[str, Outlook] = {}
    num_later: Counter[str] = Counter()
    # Backwards: of each pool, the first tool between here and its next call.
    next_tools: dict[str, str] = {}
    for call in reversed(calls):
        tool = next_tools.get(call.pool, "") if num_later[call.pool] else ""
        found[call.name] = Outlook(num_later[call.pool], tool, call.name in looped)
        num_later[call.pool] += 1
        next_tools[call.pool] = ""
        if not call.pool.startswith("engine:"):
            next_tools = dict.fromkeys(num_later, call.name) | {call.pool: ""}
    return found


def about(
    flow: str, workflow: str, node: str, turn: int, outlook: Outlook, prompt: tuple[Message, ...]
) -> Mapping[str, Any]:
    """The fields of one call; those that say nothing are left out."""
    is_last = not (outlook.remaining_steps or outlook.may_repeat)
    known: dict[str, Any] = {"flow": flow, "node": node, "workflow": workflow, "turn": turn, "last_turn": is_last}
    if not is_last:
        known |= {"steps_to_next_use": 1, "remaining_steps": max(1, outlook.remaining_steps)}
    if outlook.tool:
        known["tool"] = outlook.tool
    blocks = prefix_key(prompt)
    return {**known, "prefix_group": f"{blocks[0]:x}"} if blocks else known
