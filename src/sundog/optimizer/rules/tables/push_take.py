"""push_take: where the only reader of a table takes its first rows, by columns that the table passes on untouched, the
table's steps run for these rows only.

Only a table that is made of inputs, whose rows are all there before the first call; without filters, as each row must
end with an output; without effects; and no result. The reader must need every row (`failed_rows: stop`): a row among
the first ones that fails ends the run, as any row's failure did.
"""

from __future__ import annotations

from dataclasses import replace

from sundog.ir.logical import Filter, LogicalPlan, Table, steps_of
from sundog.ir.tables import FirstRows, InputRows, QueryRows
from sundog.ir.templates.reads import DICT_METHODS
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.rules.base import Context, RuleResult
from sundog.optimizer.rules.tables.readers import columns_of_tables, queries_of, readers_of
from sundog.queries.movement import pull_limit
from sundog.queries.order import with_keys


class PushTake:
    """Run steps for the first rows only, where only these are wanted.

    >>> from sundog.flow.example import example_plan
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_plan('''
    ...     inputs: {mails: {path: mails.csv}}
    ...     tables:
    ...       read:
    ...         from: mails
    ...         nodes: {gist: {llm: {engine: local, prompt: "Sum up {{ row.mail }}"}}}
    ...         outputs: {size: "{{ row.bytes }}", gist: "{{ gist.text }}"}
    ...       large: {query: "select gist from read order by size desc limit 10", outputs: {gist: "{{ row.gist }}"}}''')
    >>> rewrite_by(PushTake(), plan).plan.table("read").take
    FirstRows(num_rows=10, order_by=(('bytes', True),))
    """

    name = "push_take"

    def apply(self, context: Context) -> RuleResult | None:
        plan, notes = context.plan, list[str]()
        for table in plan.tables:
            take = _take_of(plan, table) if is_of_inputs_with_steps(plan, table, context.facts) else None
            if take is not None:
                plan = plan.with_table(replace(table, take=take))
                order = ", ".join(
                    f"{column}{' desc' if is_descending else ''}" for column, is_descending in take.order_by
                )
                which = f"the first {take.num_rows:,} rows{f' by {order}' if order else ''}"
                notes.append(f"{table.name} runs for {which}: its reader takes no more")
        return RuleResult(plan, tuple(notes)) if notes else None


def is_of_inputs_with_steps(plan: LogicalPlan, table: Table, facts: PlanFacts) -> bool:
    """Return whether a table that runs steps for rows of inputs may run them for some of these rows only, as far as it
    alone tells: it is no result, and nothing outside comes of it."""
    if table.take is not None or table.name in plan.results or not isinstance(table.source, InputRows | QueryRows):
        return False
    steps = steps_of(table.nodes)
    is_first = table.failed_rows != "mark" and {one.name for one in plan.tables}.isdisjoint(table.reads)
    return is_first and bool(steps) and not any(map(facts.is_ordered, steps))


def _take_of(plan: LogicalPlan, table: Table) -> FirstRows | None:
    """Return the rows of `table` that its only reader takes, None where it may take any."""
    readers = readers_of(plan, table.name)
    if len(readers) != 1 or not isinstance(readers[0].source, QueryRows) or readers[0].failed_rows != "stop":
        return None
    # Each of the first rows must end with an output.
    if any(isinstance(node, Filter) for node in table.nodes):
        return None
    (query,) = queries_of(readers[0])
    if query.reads != (table.name,) or "rowid" in query.sql.lower():
        return None
    pulled = pull_limit(query, columns_of_tables(plan))
    # Among rows that are equal in the order, the number of the source's row must decide.
    if pulled is None or pulled.relation != table.name or (pulled.order_by and with_keys(query).reads_values):
        return None
    untouched = {name.lower(): column for name, column in table.untouched.items() if name not in table.types}
    order = [(untouched.get(name.lower(), ""), is_descending) for name, is_descending in pulled.order_by]
    is_known = all(name and name not in DICT_METHODS and name not in table.joined for name, _ in order)
    return FirstRows(pulled.num_rows, tuple(order)) if is_known else None
