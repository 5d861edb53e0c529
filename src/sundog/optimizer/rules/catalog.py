"""The rules in the order in which they are tried.

Owns the order and its reasons. merge_calls is not among them: it takes effect when the planner decides sharing.
"""

from __future__ import annotations

from sundog.optimizer.rules.base import Rule
from sundog.optimizer.rules.drop_dead_steps import DropDeadSteps
from sundog.optimizer.rules.merge_subplans import MergeSubplans

MERGE_CALLS = "merge_calls"

RULES: tuple[Rule, ...] = (
    # Readers of the same step then look the same too, and so does what waits for them.
    MergeSubplans(),
    # What nobody reads is gone before others look at it.
    DropDeadSteps(),
)
RULE_NAMES = (*(rule.name for rule in RULES), MERGE_CALLS)
