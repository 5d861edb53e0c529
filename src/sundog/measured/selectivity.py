"""The selectivity of a flow's filters before it runs: measured on sampled rows, else what earlier runs have shown.

Owns the choice between the two. What is done with it is the optimizer's affair.
"""

from __future__ import annotations

from sundog.cost.history import History, selectivity
from sundog.errors import CallError
from sundog.ir.logical import Filter, LogicalPlan
from sundog.ir.templates.render import Scope, render_condition
from sundog.measured.plan_costs import SampledRows


def selectivity_of(plan: LogicalPlan, rows: SampledRows, history: History) -> dict[str, float]:
    """Return the share of rows that each filter lets pass, by its name, where anything tells."""
    known = {*plan.constants, "row"}
    scopes = [{**plan.constants, "row": row} for _, row in rows]
    found: dict[str, float] = {}
    for node in plan.nodes:
        if not isinstance(node, Filter):
            continue
        record = history.get((node.name, ""))
        if scopes and node.predicate.names <= known:
            found[node.name] = sum(_holds(node, scope) for scope in scopes) / len(scopes)
        elif record is not None and record.num_judged:
            found[node.name] = selectivity(record).expected
    return found


def _holds(node: Filter, scope: Scope) -> bool:
    """Return whether a row passes; one whose condition fails counts as not passing."""
    try:
        return render_condition(node.predicate, scope)
    except CallError:
        return False
