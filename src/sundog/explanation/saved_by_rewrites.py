"""The savings of each rewrite: the plan before it and the plan after it, estimated alike.

Owns which plans are compared. The estimates are in cost, the form in present.
"""

from __future__ import annotations

from sundog.cost.plan_estimate import PlanEstimate
from sundog.ir.logical import LogicalPlan
from sundog.ir.physical import Exec, PhysicalPlan
from sundog.ir.tables import TableSource
from sundog.measured.plan_costs import PlanCosts
from sundog.present.document import RewriteDocument, merged_calls, rewrite_document
from sundog.session.planned_flow import PlannedFlow, physical_plan


def rewrite_documents(flow: PlannedFlow, costs: PlanCosts, estimate: PlanEstimate) -> list[RewriteDocument]:
    """Return each rule with what it saves in all, and merge_calls, which the planner does. `estimate`: of the flow's
    plan."""
    before: dict[str, list[PlanEstimate]] = {}
    after: dict[str, list[PlanEstimate]] = {}
    notes: dict[str, list[str]] = {}
    # Some rules leave all steps as they are, and the last one leaves the plan: those cost no second estimate.
    known = [(_steps_and_rows(flow.plan), estimate)]

    def estimated(logical: LogicalPlan) -> PlanEstimate:
        plan = physical_plan(logical, flow.written, flow.operators, flow.choices)
        found = next((one for other, one in known if other == _steps_and_rows(plan)), None)
        if found is None:
            found = costs.estimate(plan)
            known.append((_steps_and_rows(plan), found))
        return found

    last = flow.written
    for fired in flow.rewritten.fired:
        before.setdefault(fired.rule, []).append(estimated(last))
        after.setdefault(fired.rule, []).append(estimated(fired.plan))
        notes.setdefault(fired.rule, []).extend(fired.notes)
        last = fired.plan
    found = [rewrite_document(rule, notes[rule], before[rule], after[rule]) for rule in notes]
    merged = merged_calls(estimate)
    return found if merged is None else [*found, merged]


def _steps_and_rows(plan: PhysicalPlan) -> list[tuple[TableSource, tuple[Exec, ...]]]:
    """Return all that an estimate depends on."""
    return [(table.table.source, table.nodes) for table in plan.tables]
