"""The order of the tables of a plan: which of them flow, which wait, and for what.

Owns these decisions. How rows flow is the affair of runtime.tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sundog.errors import FlowError
from sundog.ir.graph import table_order
from sundog.ir.logical import LogicalPlan, Node, Table
from sundog.ir.physical import Exec, TableExec
from sundog.ir.tables import FirstRows, InputRows, QueryRows
from sundog.queries.parsed import parse_query
from sundog.queries.row_wise import why_not_row_wise

Touched = Mapping[str, Mapping[str, bool]]
"""By table the outside state that its steps touch, and whether one of them changes it."""


def ordered_tables(
    plan: LogicalPlan,
    touched: Touched,
    order: Callable[[Sequence[Node]], tuple[Exec, ...]],
    *,
    streams: bool,
) -> tuple[TableExec, ...]:
    """Return the tables of `plan`, each after those that it reads or waits for. `order` gives the nodes of a table as
    they are executed. With `streams` False every query waits. FlowError where two tables touch the same outside state
    and the one that is written first is made of rows of the other."""
    held = _held_by_state(plan.tables, touched)
    found: dict[str, TableExec] = {}
    for table in table_order(plan.tables, held):
        sources = [name for name in table.reads if name in found]
        stream, why = _stream_of(table, sources) if streams else (None, "the plan is run table by table")
        waits_for = dict.fromkeys((*(name for name in sources if name != stream), *held.get(table.name, ())))
        depth = max((found[name].depth + len(found[name].nodes) for name in sources), default=0)
        one = TableExec(table, order(table.nodes), stream, tuple(waits_for), "" if stream else why, depth)
        found[table.name] = one if sources else replace(one, why_it_waits="")
    marked = {name for table in plan.tables if table.failed_rows == "mark" for name in table.reads}
    return tuple(replace(one, is_marked=one.name in marked) for one in found.values())


def _stream_of(table: Table, sources: Sequence[str]) -> tuple[str | None, str]:
    """Return the table whose rows flow into `table`, or why none does."""
    if not isinstance(table.source, QueryRows):
        return None, "" if isinstance(table.source, InputRows) else "it needs all rows"
    if isinstance(table.take, FirstRows):
        return None, "it takes the first rows only"
    query = parse_query(table.source.sql)
    why = ""
    for name in sources:
        objection = why_not_row_wise(query, name, [other for other in table.reads if other != name])
        if objection is None:
            return name, ""
        why = why or objection
    return None, why


def _held_by_state(tables: Sequence[Table], touched: Touched) -> dict[str, tuple[str, ...]]:
    """Return by table those that are written before it and touch what one of both changes."""
    above = _above(tables)
    held: dict[str, list[str]] = {}
    for index, later in enumerate(tables):
        for earlier in tables[:index]:
            shared = touched[earlier.name].keys() & touched[later.name].keys()
            changed = sorted(one for one in shared if touched[earlier.name][one] or touched[later.name][one])
            if not changed:
                continue
            if later.name in above[earlier.name]:
                raise FlowError(
                    f"'{earlier.name}' and '{later.name}' both touch {changed[0]}, which one of them changes, and "
                    f"'{earlier.name}' reads rows of '{later.name}'",
                    where=earlier.location,
                    hint=f"write '{later.name}' first: tables that change something run in the order written",
                )
            held.setdefault(later.name, []).append(earlier.name)
    return {name: tuple(names) for name, names in held.items()}


def _above(tables: Sequence[Table]) -> dict[str, set[str]]:
    """Return by table all tables that it is made of."""
    found: dict[str, set[str]] = {}
    for table in table_order(tables):
        direct = [name for name in table.reads if name in found]
        found[table.name] = set(direct).union(*(found[name] for name in direct))
    return found
