"""The contract of a rewrite rule.

Owns the contract. The rules are beside it, their order is in catalog, and optimizer.rewrite drives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sundog.ir.logical import LogicalPlan, Node
from sundog.optimizer.facts import PlanFacts

Nodes = tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """The facts that a rule may use."""

    facts: PlanFacts
    #: By the filter's name, the share of rows that it lets pass, in [0, 1], where that has been measured.
    selectivity: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuleResult:
    """The plan after a rule."""

    plan: LogicalPlan
    #: A short sentence for each thing that the rule did.
    notes: tuple[str, ...]


class Rule(Protocol):
    """A rewrite that keeps the answers whatever the rows are; where it would have to guess, it does not fire.

    `apply` is pure and gives None where there is nothing to do; applied to its own result it gives None.
    """

    name: str

    def apply(self, plan: LogicalPlan, context: Context) -> RuleResult | None: ...
