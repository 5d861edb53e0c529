"""The rules in the order in which they are tried.

Owns the order and its reasons. merge_calls is not among them: it takes effect when the planner decides sharing.
"""

from __future__ import annotations

from sundog.optimizer.rules.base import Rule
from sundog.optimizer.rules.drop_dead_steps import DropDeadSteps

MERGE_CALLS = "merge_calls"

RULES: tuple[Rule, ...] = (
    # What nobody reads is gone before others look at it.
    DropDeadSteps(),
)
RULE_NAMES = (*(rule.name for rule in RULES), MERGE_CALLS)
