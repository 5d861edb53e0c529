"""Rules that break the tables of a flow are named, and what they broke."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from sundog.errors import PlanError
from sundog.flow.example import example_plan
from sundog.ir.logical import LogicalPlan, Table
from sundog.ir.tables import InputRows
from sundog.optimizer.rewrite import rewrite_by
from sundog.optimizer.rules.base import Context, RuleResult

PLAN = example_plan("""
    inputs: {mails: {path: mails.csv}}
    tables:
      read: {from: mails, outputs: {id: "{{ row.id }}", state: "{{ row.state }}", size: "{{ row.size }}"}}
      open: {query: "select id, state from read", outputs: {id: "{{ row.id }}"}}
      told:
        query: "select id from read"
        nodes: {tell: {python: {call: "json:dumps", args: {obj: "{{ row.id }}"}, effect: true}}}
        outputs: {id: "{{ row.id }}"}
      small:
        query: "select id from read"
        nodes: {is_small: {filter: "{{ row.id == 1 }}"}}
        outputs: {id: "{{ row.id }}"}
    results: [open, told, small]""")
FILTER = PLAN.table("small").nodes[0]


class Broken:
    name = "break_tables"

    def __init__(self, edit: Callable[[LogicalPlan], LogicalPlan]) -> None:
        self._edit = edit

    def apply(self, context: Context) -> RuleResult | None:
        return RuleResult(self._edit(context.plan), ("broke it",))


def without(name: str) -> Callable[[LogicalPlan], LogicalPlan]:
    return lambda plan: replace(plan, tables=tuple(table for table in plan.tables if table.name != name))


def changed(name: str, change: Callable[[Table], Table]) -> Callable[[LogicalPlan], LogicalPlan]:
    return lambda plan: plan.with_table(change(plan.table(name)))


def filter_at_source(plan: LogicalPlan) -> LogicalPlan:
    plan = plan.with_table(replace(plan.table("small"), nodes=()))
    return plan.with_table(replace(plan.table("read"), nodes=(FILTER,)))


BROKEN: dict[str, tuple[Callable[[LogicalPlan], LogicalPlan], str]] = {
    "a result is gone": (without("open"), "the results are not the tables that they were"),
    "a source is gone": (without("read"), "the table 'read' is read, and no longer there"),
    "a column of a result is gone": (
        changed("open", lambda table: replace(table, outputs=())),
        "the outputs are not the columns that they were",
    ),
    "a column that a query reads is gone": (
        changed("read", lambda table: replace(table, outputs=table.outputs[1:])),
        "the table 'read' lost a column that is read",
    ),
    "columns stand in another order": (
        changed("read", lambda table: replace(table, outputs=table.outputs[::-1])),
        "the outputs are not the columns that they were",
    ),
    "failed rows mean something else": (
        changed("open", lambda table: replace(table, failed_rows="leave_out")),
        "the table 'open' has other options than it had",
    ),
    "a column has another type": (
        changed("open", lambda table: replace(table, types={"id": "DOUBLE"})),
        "the table 'open' has other options than it had",
    ),
    "a query is an input": (
        changed("open", lambda table: replace(table, source=InputRows("mails"))),
        "the table 'open' is made of something else",
    ),
    "a filter stands above an effect in another table": (
        filter_at_source,
        "the effects of 'told' stand below the filter 'is_small', and did not",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_rule_that_breaks_the_tables_is_named(case: str) -> None:
    edit, what = BROKEN[case]
    with pytest.raises(PlanError) as raised:
        rewrite_by(Broken(edit), PLAN)
    assert raised.value.what == f"the rule break_tables broke the plan: {what}"


def test_a_column_that_nobody_reads_may_go() -> None:
    edit = changed("read", lambda table: replace(table, outputs=table.outputs[:2]))
    with pytest.raises(PlanError, match="do not come to rest"):
        rewrite_by(Broken(edit), PLAN)
