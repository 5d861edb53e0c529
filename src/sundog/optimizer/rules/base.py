"""The contract of a rewrite rule.

Owns the contract. The rules are beside it, their order is in catalog, and optimizer.rewrite drives them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol, cast

from sundog.ir.logical import LogicalPlan, Node, Table
from sundog.optimizer.facts import PlanFacts

Nodes = tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Context:
    """The facts that a rule may use."""

    #: The plan as it is.
    plan: LogicalPlan
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

    def apply(self, context: Context) -> RuleResult | None: ...


@dataclass(frozen=True, slots=True)
class TableResult:
    """The table after a rule."""

    table: Table
    #: A short sentence for each thing that the rule did.
    notes: tuple[str, ...]


class TableRule(ABC):
    """A rewrite of one table, which looks at no other."""

    name: str

    @abstractmethod
    def apply_to(self, table: Table, context: Context) -> TableResult | None:
        """Return `table`, one of `context.plan`, as rewritten; None where there is nothing to do."""

    def apply(self, context: Context) -> RuleResult | None:
        changes = [change for table in context.plan.tables if (change := self.apply_to(table, context)) is not None]
        if not changes:
            return None
        plan = context.plan
        for change in changes:
            plan = plan.with_table(change.table)
        return RuleResult(plan, tuple(note for change in changes for note in change.notes))


class RuleOfTables:
    """A rule over several tables, which is imported, with all that reads queries, where a flow has several."""

    def __init__(self, name: str, of: str) -> None:
        """`of`: its class, in the module of its name in rules.tables."""
        self.name = name
        self._of = of

    def apply(self, context: Context) -> RuleResult | None:
        return self.loaded().apply(context) if len(context.plan.tables) > 1 else None

    def loaded(self) -> Rule:
        module = import_module(f"sundog.optimizer.rules.tables.{self.name}")
        return cast(Rule, getattr(module, self._of)())
