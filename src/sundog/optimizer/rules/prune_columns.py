"""prune_columns: of an input, only the columns that templates read, and those that it is joined by, become rows.

Not where a template reads a whole row, or what may be a method of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sundog.ir.logical import InputSource, LogicalPlan
from sundog.ir.templates.reads import outer_paths
from sundog.ir.templates.template import ROW, Path
from sundog.optimizer.rules.base import Context, RuleResult

_METHODS = frozenset(dir(dict))


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

    def apply(self, plan: LogicalPlan, context: Context) -> RuleResult | None:
        paths = {path[1:] for path in outer_paths(plan) if path[0] == ROW}
        if not plan.inputs or () in paths:
            return None
        inputs, notes = [], []
        for source in plan.inputs:
            columns = _columns_of(source, plan.inputs, paths)
            inputs.append(source if columns == source.columns else replace(source, columns=columns))
            if inputs[-1] is not source and columns is not None:
                notes.append(f"of {source.name} only {', '.join(columns)}")
        return RuleResult(replace(plan, inputs=tuple(inputs)), tuple(notes)) if notes else None


def _columns_of(source: InputSource, inputs: tuple[InputSource, ...], paths: Iterable[Path]) -> tuple[str, ...] | None:
    """Return the columns in the order of their names; None for all, and where no column would be left."""
    joined = {other.name: other for other in inputs[1:]}
    if source.name in joined:
        read = [path[1:] for path in paths if path[0] == source.name]
    else:
        read = [path for path in paths if path[0] not in joined]
    if any(not path or path[0] in _METHODS for path in read):
        return None
    keys = [other.key for other in joined.values() if other.key is not None]
    needed = {path[0] for path in read}
    needed |= {source.key[0]} if source.key else {driving for _, driving in keys}
    return tuple(sorted(needed)) or None
