"""push_filter: a filter at the head of a table that reads columns which its query passes on untouched stands at the
table that they come from instead, so that no step runs there for rows that it drops.

Only a filter that cannot fail, over columns that are there what they are here, and only into a table that nobody else
reads and that is no result. No filter passes an effect, in either table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile

from sundog.ir.logical import Filter, LogicalPlan, Node, Table, steps_of
from sundog.ir.tables import QueryRows
from sundog.ir.templates.reads import DICT_METHODS
from sundog.ir.templates.substitute import rename_columns
from sundog.ir.templates.template import ROW, Reference, Template
from sundog.optimizer.rules.base import Context, RuleResult
from sundog.optimizer.rules.reorder_filters import cannot_fail
from sundog.optimizer.rules.tables.readers import columns_of_tables, queries_of, readers_of
from sundog.queries.columns import output_columns
from sundog.queries.movement import pull_filter


class PushFilter:
    """Put a filter where the rows come from.

    >>> from sundog.flow.example import example_tables
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_tables('''
    ...     open:
    ...       query: "select state as st, gist from read"
    ...       nodes: {is_open: {filter: "{{ row.st == 'open' }}"}}
    ...       outputs: {gist: "{{ row.gist }}"}''')
    >>> first = rewrite_by(PushFilter(), plan).plan.table("read").nodes[0]
    >>> first.name, first.predicate.source
    ('is_open', "{{ row.status == 'open' }}")
    """

    name = "push_filter"

    def apply(self, context: Context) -> RuleResult | None:
        plan, notes = context.plan, list[str]()
        waiting = [table.name for table in plan.tables]
        while waiting:
            table = plan.table(waiting.pop())
            found = next(_moves(plan, table, context), None)
            if found is None:
                continue
            node, source, moved = found
            left = tuple(one for one in table.nodes if one is not node)
            plan = plan.with_table(replace(table, nodes=left))
            plan = plan.with_table(replace(source, nodes=(moved, *source.nodes)))
            notes.append(f"the filter {node.name} stands at {source.name}, where the rows of {table.name} come from")
            waiting += [table.name, source.name]
        return RuleResult(plan, tuple(notes)) if notes else None


def _moves(plan: LogicalPlan, table: Table, context: Context) -> Iterator[tuple[Filter, Table, Filter]]:
    """Yield the filters of a table that may move, each with the table that it moves to and its form there."""
    steps = steps_of(table.nodes)
    if not isinstance(table.source, QueryRows) or any(map(context.facts.is_ordered, steps)):
        return
    named = {name for node in table.nodes for name in node.after}
    for node in takewhile(_only_drops, table.nodes):
        assert isinstance(node, Filter)
        if node.after or node.name in named or not cannot_fail(node.predicate, frozenset(plan.constants)):
            continue
        found = _source_of(plan, table, node.predicate)
        if found is None or any(map(context.facts.is_ordered, steps_of(found[0].nodes))):
            continue
        # What a row must be to count as whole is asked of every row.
        if all(_only_drops(one) for one in found[0].nodes if isinstance(one, Filter)):
            yield node, found[0], replace(node, predicate=found[1])


def _only_drops(node: Node) -> bool:
    return isinstance(node, Filter) and node.reason is None


def _source_of(plan: LogicalPlan, table: Table, predicate: Template) -> tuple[Table, Template] | None:
    """Return the table whose rows a condition may be asked of instead, and the condition there."""
    (query,) = queries_of(table)
    read = frozenset(path[1] for path in predicate.paths if path[0] == ROW and len(path) == 2)
    columns = output_columns(query, columns_of_tables(plan))
    # The numbers of a source's rows, which queries of expansions may read, are others without the rows that are gone.
    if columns is None or not read or not read <= set(columns) or "rowid" in query.sql.lower():
        return None
    pulled = pull_filter(query, read, columns_of_tables(plan))
    if pulled is None or len(pulled) != 1:
        return None
    source = next((one for one in plan.tables if one.name == pulled[0].relation), None)
    if source is None or source.name in plan.results or readers_of(plan, source.name) != [table]:
        return None
    shown = {name.lower(): _column_of(template, source) for name, template in source.outputs}
    names = {name: shown.get(column.lower()) for name, column in pulled[0].columns.items()}
    known = {name: column for name, column in names.items() if column is not None}
    found = rename_columns(predicate, known) if len(known) == len(names) else None
    return None if found is None else (source, found)


def _column_of(template: Template, table: Table) -> str | None:
    """Return the column of the row that a template is, untouched."""
    match template.segments:
        case (Reference(path=(name, column)),) if template.is_expression and name == ROW:
            is_plain = column.isidentifier() and column not in DICT_METHODS and column not in table.joined
            return column if is_plain else None
    return None
