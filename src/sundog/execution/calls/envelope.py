"""The envelope of a call: what a run tells an engine that plans by it (docs/engines.md).

Owns its fields. Never knows what an engine does with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sundog.engines.base import Message
from sundog.host.prefix_key import prefix_key
from sundog.sched.facts import CallFacts


def envelope(facts: CallFacts, workflow_id: str, turn: int, prompt: tuple[Message, ...]) -> Mapping[str, Any]:
    """Return the fields of one call; those that say nothing are left out."""
    last_turn = facts.is_last_turn
    known: dict[str, Any] = {"flow": facts.flow, "node": facts.node, "workflow": workflow_id, "turn": turn}
    known |= {
        "last_turn": last_turn,
        "steps_to_next_use": facts.steps_to_next_use,
        "remaining_steps": facts.num_remaining_steps,
        "tool": facts.tool or None,
        "tool_share": facts.tool_share,
        "expected_pause_s": facts.expected_pause_s,
    }
    blocks = prefix_key(prompt)
    if blocks:
        known["prefix_group"] = f"{blocks[0]:x}"
    return {name: value for name, value in known.items() if value is not None}
