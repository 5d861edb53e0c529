"""drop_unread_tables: a table that no result is made of, and that has no effect, is not made.

A table whose rows go to a file counts as a result.
"""

from __future__ import annotations

from dataclasses import replace

from sundog.ir.logical import LogicalPlan, steps_of
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.rules.base import Context, RuleResult


class DropUnreadTables:
    """Leave out the tables that nothing asked for is made of.

    >>> from sundog.flow.example import example_tables
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_tables('''
    ...     sizes: {query: "select max(bytes) as size from mails", outputs: {size: "{{ row.size }}"}}''')
    >>> [table.name for table in rewrite_by(DropUnreadTables(), plan).plan.tables]
    ['sizes']
    """

    name = "drop_unread_tables"

    def apply(self, context: Context) -> RuleResult | None:
        plan = context.plan
        needed = _needed(plan, context.facts)
        notes = tuple(
            f"{table.name} is not made: no result needs it" for table in plan.tables if table.name not in needed
        )
        kept = tuple(table for table in plan.tables if table.name in needed)
        return RuleResult(replace(plan, tables=kept), notes) if notes else None


def _needed(plan: LogicalPlan, facts: PlanFacts) -> set[str]:
    """Return the results, the tables with effects, and all that these are made of."""
    reads = {table.name: table.reads for table in plan.tables}
    left = [*plan.results, *(table.name for table in plan.tables if any(map(facts.is_effect, steps_of(table.nodes))))]
    found: set[str] = set()
    while left:
        name = left.pop()
        if name in reads and name not in found:
            found.add(name)
            left += reads[name]
    return found
