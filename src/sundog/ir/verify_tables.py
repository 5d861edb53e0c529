"""This module checks what a rewrite did to the tables of a plan: which are left, what they read and show of each other,
and which filters stand above an effect in the tables that its rows are made of.

Owns the check. What happens inside a table is checked in verify.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sundog.errors import PlanError
from sundog.ir.graph import table_order
from sundog.ir.logical import Filter, LogicalPlan, Step, Table, steps_of
from sundog.ir.tables import InputRows

ColumnsRead = Callable[[LogicalPlan, str], frozenset[str] | None]
"""Returns the columns of a table that the queries of a plan read, in small letters; None for all."""


def check_tables(
    before: LogicalPlan, after: LogicalPlan, is_effect: Callable[[Step], bool], columns_read: ColumnsRead
) -> None:
    """Raise PlanError for the first thing that the tables of `after` do not keep of those of `before`."""
    names = [table.name for table in after.tables]
    if len(names) != len(set(names)) or not {table.name for table in before.tables}.issuperset(names):
        raise PlanError("the tables are not tables that there were")
    if before.results != after.results or not set(after.results).issubset(names):
        raise PlanError("the results are not the tables that they were")
    gone = {table.name for table in before.tables}.difference(names)
    if lost := [step.name for name in gone for step in steps_of(before.table(name).nodes) if is_effect(step)]:
        raise PlanError(f"the effect '{min(lost)}' was lost")
    if read := gone.intersection(name for table in after.tables for name in table.reads):
        raise PlanError(f"the table '{min(read)}' is read, and no longer there")
    for table in after.tables:
        _check_table(before.table(table.name), table)
        _check_outputs(before, after, table, columns_read)
    _check_filters_above(before, after, is_effect)


def _check_table(old: Table, table: Table) -> None:
    kept = replace(
        table,
        source=old.source,
        nodes=old.nodes,
        outputs=old.outputs,
        types=old.types,
        row_order=old.row_order,
        take=old.take,
    )
    if old.take not in (None, table.take):
        raise PlanError(f"the table '{table.name}' takes other rows than it took")
    if kept != old or any(old.types.get(name) != type for name, type in table.types.items()):
        raise PlanError(f"the table '{table.name}' has other options than it had")
    is_same = old.source == table.source
    if type(old.source) is not type(table.source) or (isinstance(table.source, InputRows) and not is_same):
        raise PlanError(f"the table '{table.name}' is made of something else")


def _check_outputs(before: LogicalPlan, after: LogicalPlan, table: Table, columns_read: ColumnsRead) -> None:
    """Check that a table has the columns that it had, but for those that nobody asks for."""
    old, new = ([name for name, _ in plan.table(table.name).outputs] for plan in (before, after))
    if old == new:
        return
    gone = set(old).difference(new)
    if [name for name in old if name in new] != new or table.name in after.results or not new:
        raise PlanError("the outputs are not the columns that they were")
    read = columns_read(after, table.name)
    if read is None or {name.lower() for name in gone} & read:
        raise PlanError(f"the table '{table.name}' lost a column that is read")


def _check_filters_above(before: LogicalPlan, after: LogicalPlan, is_effect: Callable[[Step], bool]) -> None:
    """Check that no filter came to stand above an effect that was not above it, in whatever table."""
    old_above, new_above = _above(before), _above(after)
    for table in after.tables:
        if not any(map(is_effect, steps_of(table.nodes))):
            continue
        known = {name for source in old_above[table.name] for name in _filters(before.table(source))}
        for source in new_above[table.name] & old_above[table.name]:
            if more := _filters(after.table(source)) - known:
                raise PlanError(f"the effects of '{table.name}' stand below the filter '{min(more)}', and did not")


def _above(plan: LogicalPlan) -> dict[str, frozenset[str]]:
    """Return by table itself and all that it is made of."""
    found: dict[str, frozenset[str]] = {}
    for table in table_order(plan.tables):
        found[table.name] = frozenset({table.name}).union(*(found[name] for name in table.reads if name in found))
    return found


def _filters(table: Table) -> set[str]:
    return {node.name for node in table.nodes if isinstance(node, Filter)}
