"""A flow with its plan: what its user wrote and chose, what the rewrites left of it, how it is executed.

Owns the way from the one to the other, in memory alone: whatever has to be read is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sundog.deployment import rows_in_flight
from sundog.ir.logical import LogicalPlan
from sundog.ir.physical import PhysicalPlan
from sundog.operators.base import Operator
from sundog.optimizer.planner import PlannerOptions, plan_physical
from sundog.optimizer.rewrite import Rewritten, check_rule_names, rewrite
from sundog.sched.policy import POLICIES
from sundog.session.choices import PlanChoices


@dataclass(frozen=True, slots=True)
class PlannedFlow:
    """One flow, planned as its user chose."""

    #: The flow as its user wrote it, by which its runs are known.
    written: LogicalPlan
    #: An operator for each kind of step in it.
    operators: Mapping[str, Operator]
    choices: PlanChoices
    #: The flow after the rewrites, and what each of them did.
    rewritten: Rewritten
    #: The plan that a run executes.
    plan: PhysicalPlan


def check_choices(choices: PlanChoices) -> None:
    """Raise ConfigError for a policy set or a rule that does not exist."""
    if choices.policy is not None:
        POLICIES.get(choices.policy)
    check_rule_names(choices.rewriting.without)


def plan_flow(
    written: LogicalPlan,
    operators: Mapping[str, Operator],
    choices: PlanChoices,
    selectivity: Mapping[str, float],
) -> PlannedFlow:
    """Return `written` rewritten and planned. `selectivity`: the share of rows that each filter keeps, where anything
    tells. FlowError for what cannot be planned, ConfigError for an unknown objective or solver."""
    results = tuple(dict.fromkeys((*written.results, *choices.outputs)))
    asked = written if results == written.results else replace(written, results=results)
    rewritten = rewrite(asked, operators, without=choices.rewriting.left_out, selectivity=selectivity)
    plan = physical_plan(rewritten.plan, written, operators, choices)
    return PlannedFlow(written, operators, choices, rewritten, plan)


def physical_plan(
    logical: LogicalPlan, written: LogicalPlan, operators: Mapping[str, Operator], choices: PlanChoices
) -> PhysicalPlan:
    """Return the physical plan of `logical`, which some or all rewrites have made of `written`."""
    options = PlannerOptions(
        objective=choices.objective,
        solver=choices.placement,
        merges_calls=choices.rewriting.merges_calls,
        is_serial=choices.rewriting.is_naive,
    )
    if choices.policy is not None:
        options = replace(options, policy=POLICIES.get(choices.policy).name)
    if choices.max_rows_in_flight is not None:
        options = replace(options, max_rows_in_flight=choices.max_rows_in_flight)
    plan = plan_physical(logical, operators, options, written=written)
    if choices.max_rows_in_flight is not None:
        return plan
    return replace(plan, max_rows_in_flight=rows_in_flight(plan))
