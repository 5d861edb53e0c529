"""push_take: where the only reader of a table takes its first rows, by columns that the table passes on untouched, the
table's steps run for these rows only.

Only a table that is made of inputs, whose rows are all there before the first call; without filters, as each row must
end with an output; without effects; and no result. The reader must need every row (`failed_rows: stop`): a row among
the first ones that fails ends the run, as any row's failure did.
"""

from __future__ import annotations

from sundog.ir.logical import Filter, LogicalPlan, Table
from sundog.ir.tables import FirstRows, QueryRows
from sundog.optimizer.rules.tables.readers import columns_of_tables
from sundog.optimizer.rules.tables.take_rule import TakeRule, columns_of_row
from sundog.queries.movement import pull_limit
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

    def take_of(self, plan: LogicalPlan, table: Table, reader: Table, query: Query) -> FirstRows | None:
        # Each of the first rows must end with an output.
        has_filters = any(isinstance(node, Filter) for node in table.nodes)
        if has_filters or not isinstance(reader.source, QueryRows) or reader.failed_rows != "stop":
            return None
        pulled = pull_limit(query, columns_of_tables(plan)) if query.reads == (table.name,) else None
        # Among rows that are equal in the order, the number of the source's row must decide.
        if pulled is None or pulled.relation != table.name or (pulled.order_by and with_keys(query).reads_values):
            return None
        columns = columns_of_row(table)
        if any(name.lower() not in columns for name, _ in pulled.order_by):
            return None
        order = tuple((columns[name.lower()], is_descending) for name, is_descending in pulled.order_by)
        return FirstRows(pulled.num_rows, order)
