"""push_take: where the only reader of a table takes its first rows, by columns that the table passes on untouched, the
table's steps run for these rows only, and so do those of the tables that each of its rows comes from.

Only a table without filters, as each row must end with an output; without effects; and no result. The reader must need
every row (`failed_rows: stop`): a row among the first ones that fails ends the run, as any row's failure did. Where the
rows of such a table would flow, it waits for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from sundog.ir.logical import Filter, LogicalPlan, Table
from sundog.ir.tables import FirstRows, QueryRows
from sundog.optimizer.rules.tables.readers import columns_of_tables
from sundog.optimizer.rules.tables.take_rule import TakeRule, WantedRows, columns_of_row
from sundog.queries.movement import pull_first, pull_limit
from sundog.queries.order import with_keys
from sundog.queries.parsed import Query


class PushTake(TakeRule):
    """Run steps for the first rows only, where only these are wanted.

    >>> from sundog.flow.example import example_tables
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_tables('''
    ...     large: {query: "select gist from read order by size desc limit 10", outputs: {gist: "{{ row.gist }}"}}''')
    >>> rewrite_by(PushTake(), plan).plan.table("read").take
    FirstRows(num_rows=10, order_by=(('bytes', True),))
    """

    name = "push_take"

    def takes_of(self, plan: LogicalPlan, table: Table, reader: Table, query: Query) -> Sequence[FirstRows]:
        if not _ends_whole(table) or not isinstance(reader.source, QueryRows) or reader.failed_rows != "stop":
            return ()
        pulled = pull_limit(query, columns_of_tables(plan)) if query.reads == (table.name,) else None
        # Among rows that are equal in the order, the number of the source's row must decide.
        if pulled is None or pulled.relation != table.name or (pulled.order_by and with_keys(query).reads_values):
            return ()
        take = _first(table, pulled.num_rows, pulled.order_by)
        return () if take is None else (take,)

    def above(self, plan: LogicalPlan, table: Table, take: WantedRows, query: Query) -> tuple[Table, WantedRows] | None:
        if not isinstance(take, FirstRows) or table.failed_rows != "stop":
            return None
        pulled = pull_first(query, [name for name, _ in take.order_by], columns_of_tables(plan))
        source = next((one for one in plan.tables if pulled is not None and one.name == pulled.relation), None)
        if pulled is None or source is None or not _ends_whole(source):
            return None
        moved = _first(source, take.num_rows, [(pulled.columns[name], is_last) for name, is_last in take.order_by])
        return None if moved is None else (source, moved)


def _ends_whole(table: Table) -> bool:
    """Return whether each row of a table ends with an output, or fails."""
    return not any(isinstance(node, Filter) and node.reason is None for node in table.nodes)


def _first(table: Table, num_rows: int, order_by: Sequence[tuple[str, bool]]) -> FirstRows | None:
    """Return the first rows of a table by some of its outputs; None where one of them is no column of its row."""
    columns = columns_of_row(table)
    if any(name.lower() not in columns for name, _ in order_by):
        return None
    return FirstRows(num_rows, tuple((columns[name.lower()], is_descending) for name, is_descending in order_by))
