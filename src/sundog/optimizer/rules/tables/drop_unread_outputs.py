"""drop_unread_outputs: columns of a table that no query reads are not kept, and columns of a query that no template
reads are not selected. A step that gave nothing else is then dropped as dead.

Not of a result. Where a query takes distinct rows, shows all columns, or cannot be read for certain, all stay.
"""

from __future__ import annotations

from dataclasses import replace

from sundog.ir.graph import table_order
from sundog.ir.logical import LogicalPlan, Table
from sundog.ir.tables import QueryRows
from sundog.ir.templates.reads import DICT_METHODS, outer_paths
from sundog.ir.templates.template import ROW, Template
from sundog.optimizer.rules.base import Context, RuleResult
from sundog.optimizer.rules.tables.readers import (
    columns_of_tables,
    output_columns_read,
    queries_of,
    readers_of,
    with_queries,
)
from sundog.queries.columns import output_columns
from sundog.queries.removal import without_columns


class DropUnreadOutputs:
    """Leave out the columns between tables that nobody reads.

    >>> from sundog.flow.example import example_tables
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_tables('''
    ...     states: {query: "select state, count(*) as n from read group by state", outputs: {n: "{{ row.n }}"}}''')
    >>> [name for name, _ in rewrite_by(DropUnreadOutputs(), plan).plan.table("read").outputs]
    ['state']
    """

    name = "drop_unread_outputs"

    def apply(self, context: Context) -> RuleResult | None:
        plan, notes = context.plan, list[str]()
        # From the results up: what a reader no longer selects, its source no longer needs to show.
        for name in reversed([table.name for table in table_order(plan.tables)]):
            plan, dropped = _without_unread_outputs(plan, plan.table(name))
            notes += dropped
            plan, dropped = _without_unread_columns(plan, plan.table(name))
            notes += dropped
        return RuleResult(plan, tuple(notes)) if notes else None


def _without_unread_outputs(plan: LogicalPlan, table: Table) -> tuple[LogicalPlan, list[str]]:
    if table.name in plan.results or not readers_of(plan, table.name):
        return plan, []
    read = output_columns_read(plan, table.name)
    if read is None:
        return plan, []
    kept = tuple(one for one in table.outputs if one[0].lower() in read) or _cheapest(table)
    gone = [name for name, _ in table.outputs if name not in dict(kept)]
    if not gone:
        return plan, []
    types = {name: type for name, type in table.types.items() if name not in gone}
    note = f"{table.name} without {', '.join(gone)}: nobody reads {'it' if len(gone) == 1 else 'them'}"
    return plan.with_table(replace(table, outputs=kept, types=types)), [note]


def _cheapest(table: Table) -> tuple[tuple[str, Template], ...]:
    """Return the one column of a table whose rows are only counted: one that needs no step, where there is one."""
    of_rows = (one for one in table.outputs if one[1].names <= {ROW})
    return (next(of_rows, table.outputs[0]),)


def _without_unread_columns(plan: LogicalPlan, table: Table) -> tuple[LogicalPlan, list[str]]:
    paths = {path[1:] for path in outer_paths(table) if path[0] == ROW}
    if not isinstance(table.source, QueryRows) or any(not path or path[0] in DICT_METHODS for path in paths):
        return plan, []
    (query,) = queries_of(table)
    columns = output_columns(query, columns_of_tables(plan))
    told = () if table.candidates is None else table.candidates.columns
    unread = frozenset(columns or ()) - {path[0] for path in paths} - {*told}
    found = without_columns(query, unread) if unread else None
    if found is None:
        return plan, []
    left = output_columns(found, columns_of_tables(plan)) or ()
    note = f"the query of {table.name} without {', '.join(name for name in columns or () if name not in left)}"
    return plan.with_table(with_queries(table, [found])), [note]
