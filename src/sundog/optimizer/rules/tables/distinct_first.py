"""distinct_first: where the only reader of a table takes distinct rows, the table's steps run once for each distinct
row of the columns that they and its outputs read, and not once for each row.

Only a table that is made of a query, is no result, and gives equal rows for equal rows: every step's equal calls may
share a result, and none is in a loop. Calls to engines are shared among equal rows without the rule; it spares the rows
themselves, and what each of them is committed as.
"""

from __future__ import annotations

from collections.abc import Sequence

from sundog.ir.logical import Filter, LogicalPlan, Step, Table, ValueNode
from sundog.ir.physical import Sharing
from sundog.ir.tables import QueryRows
from sundog.ir.templates.reads import DICT_METHODS, outer_paths
from sundog.ir.templates.template import ROW
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.rules.base import Context, RuleResult
from sundog.optimizer.rules.tables.readers import queries_of, readers_of, with_queries
from sundog.queries.distinct import distinct_rows, needs_distinct_rows_only


class DistinctFirst:
    """Take distinct rows before steps, where they are taken behind them.

    >>> from sundog.flow.example import example_tables
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_tables('''
    ...     explained:
    ...       query: "select state from read where size > 1"
    ...       nodes: {meant: {llm: {engine: local, prompt: "Explain {{ row.state }}"}}}
    ...       outputs: {state: "{{ row.state }}", meant: "{{ meant.text }}"}
    ...     states: {query: "select distinct state, meant from explained", outputs: {meant: "{{ row.meant }}"}}''')
    >>> print(rewrite_by(DistinctFirst(), plan).plan.table("explained").source.sql)
    select "state" from (
    select state from read where size > 1
    ) as __rows group by "state", "state"::varchar
    """

    name = "distinct_first"

    def apply(self, context: Context) -> RuleResult | None:
        plan, notes = context.plan, list[str]()
        for table in plan.tables:
            columns = _columns_read(table)
            if columns and _is_function_of_rows(table, context.facts) and _is_read_distinct(plan, table):
                (query,) = queries_of(table)
                found = distinct_rows(query, columns)
                if found is not None:
                    plan = plan.with_table(with_queries(table, [found]))
                    notes.append(
                        f"{table.name} runs once for each {', '.join(columns)}: its reader takes distinct rows"
                    )
        return RuleResult(plan, tuple(notes)) if notes else None


def _columns_read(table: Table) -> Sequence[str]:
    """Return the columns of the row that a table reads, by name; none where it reads rows as a whole."""
    paths = {path for path in outer_paths(table) if path[0] == ROW}
    if any(len(path) < 2 or path[1] in DICT_METHODS for path in paths):
        return ()
    return sorted({path[1] for path in paths})


def _is_function_of_rows(table: Table, facts: PlanFacts) -> bool:
    """Return whether a table made of a query gives equal rows for equal rows, and runs steps for them."""
    if not isinstance(table.source, QueryRows) or table.failed_rows == "mark":
        return False
    steps = [node for node in table.nodes if isinstance(node, Step)]
    others = [node for node in table.nodes if not isinstance(node, Step | Filter | ValueNode)]
    is_equal = all(facts.sharing(step) is not Sharing.NEVER and not facts.is_ordered(step) for step in steps)
    return bool(steps) and not others and is_equal and "rowid" not in table.source.sql.lower()


def _is_read_distinct(plan: LogicalPlan, table: Table) -> bool:
    readers = readers_of(plan, table.name)
    if table.name in plan.results or len(readers) != 1 or not isinstance(readers[0].source, QueryRows):
        return False
    (query,) = queries_of(readers[0])
    has_numbers = "rowid" in query.sql.lower() or readers[0].failed_rows == "mark"
    return not has_numbers and needs_distinct_rows_only(query)
