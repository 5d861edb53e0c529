"""push_where: conditions of a query over columns that its source passes on untouched are asked before the source's
steps, which then run for no row that the query would leave out.

Only of a table that is made of inputs, whose rows are all there before the first call, that nobody else reads, that is
no result and has no effect. The query keeps its conditions, and where DuckDB cannot tell of some row, all rows are
taken: the rule only ever spares rows that the query leaves out.
"""

from __future__ import annotations

from dataclasses import replace

from sundog.ir.logical import LogicalPlan, Table
from sundog.ir.tables import CollectedRows, MatchingRows, QueryRows
from sundog.ir.templates.reads import DICT_METHODS
from sundog.optimizer.rules.base import Context, RuleResult
from sundog.optimizer.rules.tables.push_take import is_of_inputs_with_steps
from sundog.optimizer.rules.tables.readers import columns_of_tables, queries_of, readers_of
from sundog.queries.removal import split_where


class PushWhere:
    """Ask the conditions of a query before the steps of its source.

    >>> from sundog.flow.example import example_plan
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_plan('''
    ...     inputs: {mails: {path: mails.csv}}
    ...     tables:
    ...       read:
    ...         from: mails
    ...         nodes: {gist: {llm: {engine: local, prompt: "Sum up {{ row.mail }}"}}}
    ...         outputs: {state: "{{ row.status }}", gist: "{{ gist.text }}"}
    ...       open: {query: "select gist from read where state = 'open'", outputs: {gist: "{{ row.gist }}"}}''')
    >>> rewrite_by(PushWhere(), plan).plan.table("read").take
    MatchingRows(conditions=("state = 'open'",), alias='read', columns=(('state', 'status'),))
    """

    name = "push_where"

    def apply(self, context: Context) -> RuleResult | None:
        plan, notes = context.plan, list[str]()
        for table in plan.tables:
            take = _take_of(plan, table) if is_of_inputs_with_steps(plan, table, context.facts) else None
            if take is not None:
                plan = plan.with_table(replace(table, take=take))
                notes.append(
                    f"{table.name} runs for rows where {' and '.join(take.conditions)}: its reader takes no others"
                )
        return RuleResult(plan, tuple(notes)) if notes else None


def _take_of(plan: LogicalPlan, table: Table) -> MatchingRows | None:
    """Return the rows of `table` that its only reader may look at, None where it may look at any."""
    readers = readers_of(plan, table.name)
    if len(readers) != 1 or readers[0].failed_rows == "mark":
        return None
    if not isinstance(readers[0].source, QueryRows | CollectedRows):
        return None
    (query,) = queries_of(readers[0])
    columns = {
        name.lower(): column
        for name, column in table.untouched.items()
        if not (name in table.types or column in DICT_METHODS or column in table.joined)
    }
    if "rowid" in query.sql.lower():
        return None
    split = split_where(query, table.name, columns_of_tables(plan), frozenset(columns))
    # The constants of the flow are parameters of its queries only.
    if split is None or any("$" in condition for condition in split.conditions):
        return None
    read = sorted({name.lower() for name in split.columns})
    return MatchingRows(split.conditions, split.alias, tuple((name, columns[name]) for name in read))
