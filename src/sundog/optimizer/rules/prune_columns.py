"""prune_columns: of an input, only the columns that templates read, and those that it is joined by, become rows.

Not where a template reads a whole row, or what may be a method of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sundog.ir.logical import LogicalPlan, Table
from sundog.ir.tables import InputRows
from sundog.ir.templates.reads import DICT_METHODS, outer_paths
from sundog.ir.templates.template import ROW
from sundog.optimizer.rules.base import Context, RuleResult


class PruneColumns:
    """Choose the columns of each input that become rows.

    >>> from sundog.flow.example import example_plan
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_plan('''
    ...     nodes: {reply: {llm: {engine: local, prompt: "To {{ row.owners.name }}: {{ row.mail }}"}}}
    ...     outputs: {reply: "{{ reply.text }}"}''')
    >>> [(source.name, source.columns) for source in rewrite_by(PruneColumns(), plan).plan.inputs]
    [('rows', ('mail', 'owner')), ('owners', ('id', 'name'))]
    """

    name = "prune_columns"

    def apply(self, context: Context) -> RuleResult | None:
        plan = context.plan
        needed = _columns_needed(plan)
        inputs, notes = [], []
        for source in plan.inputs:
            columns = needed.get(source.name)
            inputs.append(source if columns == source.columns else replace(source, columns=columns))
            if inputs[-1] is not source and columns is not None:
                notes.append(f"of {source.name} only {', '.join(columns)}")
        return RuleResult(replace(plan, inputs=tuple(inputs)), tuple(notes)) if notes else None


def _columns_needed(plan: LogicalPlan) -> dict[str, tuple[str, ...]]:
    """Return by input the columns that its readers need, in the order of their names; not where one needs all, and
    where no column would be left."""
    keys = {source.name: source.key for source in plan.inputs}
    found: dict[str, set[str] | None] = {}
    for table in plan.tables:
        for name in table.reads:
            here = _columns_of(name, table, keys) if isinstance(table.source, InputRows) else None
            known = found.get(name, set())
            found[name] = None if here is None or known is None else known | here
    return {name: tuple(sorted(columns)) for name, columns in found.items() if columns}


def _columns_of(name: str, table: Table, keys: Mapping[str, tuple[str, str] | None]) -> set[str] | None:
    """Return the columns of an input that a table reads, and those by which inputs are joined; None for all."""
    paths = {path[1:] for path in outer_paths(table) if path[0] == ROW}
    if () in paths:
        return None
    if name in table.joined:
        read = [path[1:] for path in paths if path[0] == name]
    else:
        read = [path for path in paths if path[0] not in table.joined]
    if any(not path or path[0] in DICT_METHODS for path in read):
        return None
    own = keys.get(name)
    driving = [key[1] for other in table.joined if (key := keys.get(other)) is not None]
    return {path[0] for path in read} | ({own[0]} if own else set(driving))
