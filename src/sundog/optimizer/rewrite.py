"""The driver of the rewrites: rules in their order, again until none fires, each result checked.

Owns the passes and the record of what fired. What is rewritten is the rules' affair.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sundog.errors import ConfigError, PlanError, suggest
from sundog.ir.logical import LogicalPlan, steps_of
from sundog.ir.verify import check_rewrite
from sundog.operators.base import OPERATORS, Operator
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.rules.base import Context, Rule, RuleResult
from sundog.optimizer.rules.catalog import RULE_NAMES, RULES

# Each pass ends further from where it began, but for a bug in a rule; that must not become a hang.
MAX_PASSES = 32


@dataclass(frozen=True, slots=True)
class Fired:
    """One rule's work."""

    rule: str
    #: A short sentence for each thing that it did.
    notes: tuple[str, ...]
    #: The plan that it left.
    plan: LogicalPlan


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The plan, and what was done to it, in order."""

    plan: LogicalPlan
    fired: tuple[Fired, ...]


def check_rule_names(names: Collection[str]) -> None:
    """Raise ConfigError for a name that no rule has."""
    for name in names:
        if name not in RULE_NAMES:
            raise ConfigError(f"there is no rule '{name}'", hint=suggest(name, RULE_NAMES))


def rewrite(
    plan: LogicalPlan,
    operators: Mapping[str, Operator],
    *,
    rules: Sequence[Rule] = RULES,
    without: Collection[str] = (),
    selectivity: Mapping[str, float] | None = None,
) -> Rewritten:
    """Return `plan` after all `rules` but those named in `without`. `selectivity`: as in rules.base.Context.

    PlanError, naming the rule, where a rule broke what every rewrite must keep.
    """
    chosen = [rule for rule in rules if rule.name not in without]
    fired: list[Fired] = []
    for _ in range(MAX_PASSES):
        begun = plan
        for rule in chosen:
            change = rule.apply(Context(plan, PlanFacts(plan, operators), selectivity or {}))
            if change is not None:
                _check(rule, plan, change, operators)
                fired.append(Fired(rule.name, change.notes, change.plan))
                plan = change.plan
        if plan is begun:
            return Rewritten(plan, tuple(fired))
    raise PlanError(f"the rules do not come to rest; the last was {fired[-1].rule}", hint=_hint(fired[-1].rule))


def rewrite_by(rule: Rule, plan: LogicalPlan) -> Rewritten:
    """Return `plan` after `rule` alone, as the rule's example and fixtures show it. The operators are the registered
    ones, with the working directory as their folder."""
    operators = {step.operator: OPERATORS.get(step.operator)(Path()) for step in steps_of(plan.nodes)}
    return rewrite(plan, operators, rules=[rule])


def _check(rule: Rule, before: LogicalPlan, change: RuleResult, operators: Mapping[str, Operator]) -> None:
    facts = PlanFacts(before, operators)
    try:
        check_rewrite(before, change.plan, facts.is_effect, facts.is_ordered, _columns_read)
    except PlanError as error:
        raise PlanError(f"the rule {rule.name} broke the plan: {error.what}", hint=_hint(rule.name)) from error


def _columns_read(plan: LogicalPlan, table: str) -> frozenset[str] | None:
    from sundog.optimizer.rules.tables.readers import output_columns_read  # what reads queries, which few flows have

    return output_columns_read(plan, table)


def _hint(rule: str) -> str:
    return f"this is a bug in sundog; --no-rule {rule} goes without the rule"
