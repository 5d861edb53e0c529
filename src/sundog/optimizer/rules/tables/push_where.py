"""push_where: conditions of a query over columns that its source passes on untouched are asked before the source's
steps, which then run for no row that the query would leave out.

Only of a table that is made of inputs, whose rows are all there before the first call, that nobody else reads, that is
no result and has no effect. The query keeps its conditions, and where DuckDB cannot tell of some row, all rows are
taken: the rule only ever spares rows that the query leaves out.
"""

from __future__ import annotations

from sundog.ir.logical import LogicalPlan, Table
from sundog.ir.tables import MatchingRows
from sundog.optimizer.rules.tables.readers import columns_of_tables
from sundog.optimizer.rules.tables.take_rule import TakeRule, columns_of_row
from sundog.queries.parsed import Query
from sundog.queries.removal import split_where


class PushWhere(TakeRule):
    """Ask the conditions of a query before the steps of its source.

    >>> from sundog.flow.example import example_tables
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_tables('''
    ...     open: {query: "select gist from read where state = 'open'", outputs: {gist: "{{ row.gist }}"}}''')
    >>> rewrite_by(PushWhere(), plan).plan.table("read").take
    MatchingRows(conditions=("state = 'open'",), alias='read', columns=(('state', 'status'),))
    """

    name = "push_where"

    def take_of(self, plan: LogicalPlan, table: Table, reader: Table, query: Query) -> MatchingRows | None:
        columns = columns_of_row(table)
        split = split_where(query, table.name, columns_of_tables(plan), frozenset(columns))
        # The constants of the flow are parameters of its queries only.
        if reader.failed_rows == "mark" or split is None or any("$" in condition for condition in split.conditions):
            return None
        read = sorted({name.lower() for name in split.columns})
        return MatchingRows(split.conditions, split.alias, tuple((name, columns[name]) for name in read))
