"""The outputs of a run, by the tables whose rows they hold.

Owns the reading of what a user wrote: one path, or a path for each of several tables. Never looks at a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sundog.errors import ConfigError, suggest
from sundog.ir.logical import LogicalPlan
from sundog.runtime.rows.outputs import Output, output_meant

Named = tuple[str, str | Path]
"""A table and its path."""


def outputs_named(plan: LogicalPlan, written: Sequence[str | Path | Named]) -> dict[str, Output]:
    """Return the outputs by table. A path without a name is that of the flow's only result. ConfigError for a table
    that is not there or has two paths, and for a path that may be that of several."""
    found: dict[str, Output] = {}
    for one in written:
        table, path = _named(plan, one)
        if table in found:
            named = f"the table '{table}'" if table else "the result"
            raise ConfigError(f"{named} has two outputs: {found[table]} and {path}", hint="leave one of them away")
        found[table] = output_meant(path)
    return found


def _named(plan: LogicalPlan, written: str | Path | Named) -> Named:
    tables = [table.name for table in plan.tables if table.name]
    if isinstance(written, tuple):
        name, path = written
        if name not in tables and not (name == "" and not tables):
            raise ConfigError(f"the flow has no table '{name}'", where=f"output {path}", hint=suggest(name, tables))
        return name, path
    name, equals, path = str(written).partition("=")
    if equals and name in tables:
        return name, path
    if equals and tables and name.isidentifier():
        raise ConfigError(f"the flow has no table '{name}'", where=f"output {written}", hint=suggest(name, tables))
    if len(plan.results) != 1:
        hint = f"say which, as in --output {plan.results[0]}={written}"
        raise ConfigError(f"the flow has {len(plan.results)} results: {', '.join(plan.results)}", hint=hint)
    return plan.results[0], written
