"""push_where: conditions of a query over columns that its source passes on untouched are asked before the source's
steps, which then run for no row that the query would leave out, and so on up to the table that these columns come from.

Only of tables that nobody else reads, that are no result and have no effect. The query keeps its conditions, and where
DuckDB cannot tell of some row, all rows are taken: the rule only ever spares rows that the query leaves out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sundog.ir.logical import LogicalPlan, Table
from sundog.ir.tables import MatchingRows
from sundog.optimizer.rules.tables.readers import columns_of_tables
from sundog.optimizer.rules.tables.take_rule import TakeRule, WantedRows, columns_of_row
from sundog.queries.movement import pull_conditions
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

    def takes_of(self, plan: LogicalPlan, table: Table, reader: Table, query: Query) -> Sequence[MatchingRows]:
        columns = columns_of_row(table)
        split = split_where(query, table.name, columns_of_tables(plan), frozenset(columns))
        # The constants of the flow are parameters of its queries only.
        if reader.failed_rows == "mark" or split is None or any("$" in condition for condition in split.conditions):
            return ()
        read = [sorted({name.lower() for name in names}) for names in split.columns]
        return [
            MatchingRows((condition,), split.alias, tuple((name, columns[name]) for name in names))
            for condition, names in zip(split.conditions, read, strict=True)
        ]

    def above(self, plan: LogicalPlan, table: Table, take: WantedRows, query: Query) -> tuple[Table, WantedRows] | None:
        if not isinstance(take, MatchingRows):
            return None
        pulled = pull_conditions(query, frozenset(column for _, column in take.columns), columns_of_tables(plan))
        source = next((one for one in plan.tables if pulled is not None and one.name == pulled.relation), None)
        if pulled is None or source is None:
            return None
        of_row = columns_of_row(source)
        columns = tuple((name, of_row.get(pulled.columns[column].lower(), "")) for name, column in take.columns)
        return (source, replace(take, columns=columns)) if all(column for _, column in columns) else None
