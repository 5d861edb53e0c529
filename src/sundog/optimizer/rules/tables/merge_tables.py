"""merge_tables: tables that are equal but for the names of the table and of its nodes are one, which is made once.

Equal means the source, the nodes, the columns and the options. Queries are equal where they say the same of tables that
are equal themselves, so that whole chains become one. Only tables whose every step may share the results of equal
calls: no effect, no function of the user's without `share: true`, no person's answer, no sampling; and none with loops
or agents. Two results stay two tables, as two files are written.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import replace

from sundog.ir.graph import table_order
from sundog.ir.logical import Filter, LogicalPlan, Step, Table
from sundog.ir.tables import CollectedRows, ComponentRows, InputRows, MatchingRows, QueryRows
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.rules.base import Context, RuleResult
from sundog.optimizer.rules.merge_subplans import CannotRename, may_be_one, reading, renamed
from sundog.optimizer.rules.tables.readers import columns_of_tables, queries_of, with_queries
from sundog.queries.columns import Schema
from sundog.queries.renaming import says_the_same, with_relations


class MergeTables:
    """Make one table of several equal ones.

    >>> from sundog.flow.example import example_tables
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_tables('''
    ...     again:
    ...       from: mails
    ...       nodes: {sum: {llm: {engine: local, prompt: "Sum up {{ row.mail }}"}}}
    ...       outputs: {state: "{{ row.status }}", size: "{{ row.bytes }}", gist: "{{ sum.text }}"}
    ...     both: {query: "select l.gist from read l join again r on l.size = r.size"}''')
    >>> merged = rewrite_by(MergeTables(), plan).plan
    >>> [table.name for table in merged.tables], merged.table("both").source.sql
    (['read', 'both'], 'select l.gist from read l join "read" r on l.size = r.size')
    """

    name = "merge_tables"

    def apply(self, context: Context) -> RuleResult | None:
        plan = context.plan
        into: dict[str, str] = {}
        for equal in _equals(plan, context.facts):
            names = [table.name for table in equal]
            kept = [name for name in names if name in plan.results] or names[:1]
            into |= {name: kept[0] for name in names if name not in kept}
        tables: list[Table] = []
        while into and len(tables) < len(plan.tables) - len(into):
            left = [table for table in plan.tables if table.name not in into]
            readers = [_reading(table, into) for table in left]
            tables = [reader for reader in readers if reader is not None]
            # A table that can read nothing in the place of another keeps what it reads.
            unmoved = {
                name for table, reader in zip(left, readers, strict=True) if reader is None for name in table.reads
            }
            into = {old: new for old, new in into.items() if old not in unmoved}
        notes = tuple(f"{old} is {new}: one table for both, which is made once" for old, new in into.items())
        return RuleResult(replace(plan, tables=tuple(tables)), notes) if notes else None


def _equals(plan: LogicalPlan, facts: PlanFacts) -> list[list[Table]]:
    """Return the tables as sets of equal ones, each in the order in which they are made."""
    schema, number_of = columns_of_tables(plan), dict[str, int]()
    found: list[list[Table]] = []
    known: dict[Hashable, list[int]] = defaultdict(list)
    for table in table_order(plan.tables):
        alike = known[_likeness(table, number_of)] if _may_be_one(table, facts) else []
        number = next((one for one in alike if _are_equal(found[one][0], table, schema)), len(found))
        if number == len(found):
            found.append([])
            alike.append(number)
        found[number].append(table)
        number_of[table.name] = number
    return found


def _likeness(table: Table, number_of: Mapping[str, int]) -> Hashable:
    """Return a key that is equal for equal tables, and for few others. `number_of`: by table, the set of its equals."""
    kinds = tuple(node.operator if isinstance(node, Step) else type(node) for node in table.nodes)
    reads = tuple(number_of.get(name, name) for name in table.reads)
    return type(table.source), reads, kinds, tuple(name for name, _ in table.outputs)


def _may_be_one(table: Table, facts: PlanFacts) -> bool:
    """Return whether an equal table has equal rows."""
    is_function = all(isinstance(node, Filter) or may_be_one(node, facts) for node in table.nodes)
    # The queries of tables that mark failed rows know these by the table that they read.
    return is_function and table.failed_rows != "mark"


def _are_equal(first: Table, table: Table, schema: Schema) -> bool:
    """Return whether two tables are equal but for names. What they read is equal."""
    names = {node.name: one.name for node, one in zip(table.nodes, first.nodes, strict=True)}
    try:
        nodes = [reading(node, names) for node in table.nodes]
        outputs = tuple((name, renamed(template, names)) for name, template in table.outputs)
    except CannotRename:
        return False
    are_queries_equal = all(
        says_the_same(query, other, schema) for query, other in zip(queries_of(table), queries_of(first), strict=True)
    )
    return (
        are_queries_equal
        and outputs == first.outputs
        and _options(table) == _options(first)
        and all(replace(node, name="") == replace(one, name="") for node, one in zip(nodes, first.nodes, strict=True))
    )


def _options(table: Table) -> Hashable:
    """Return what decides the rows of a table beside its queries, its nodes and its columns."""
    match table.source:
        case QueryRows():
            of_source: Hashable = ()
        case CollectedRows() as source:
            of_source = (source.by, source.as_, source.max_group_rows, source.order_by)
        case ComponentRows() as source:
            of_source = source.max_nodes
        case InputRows() as source:
            of_source = source
    take = table.take
    # Conditions that name no column by its table are the same, whatever the table is called.
    if isinstance(take, MatchingRows) and not any("." in condition for condition in take.conditions):
        take = replace(take, alias="")
    types = tuple(sorted(table.types.items()))
    return of_source, table.failed_rows, table.max_rows, take, types, table.made_by is None


def _reading(table: Table, into: Mapping[str, str]) -> Table | None:
    """Return `table` reading other tables in the place of those that are gone, None where it cannot."""
    if into.keys().isdisjoint(table.reads):
        return table
    queries = [with_relations(query, into) for query in queries_of(table)]
    found = [query for query in queries if query is not None]
    return with_queries(table, found) if len(found) == len(queries) and table.failed_rows != "mark" else None
