"""The inputs of a flow, opened: the rows of each table that is made of an input, and what queries read.

Owns which rows of which input belong to which table. What rows are is the affair of runtime.rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sundog.ir.logical import LogicalPlan, Table
from sundog.ir.tables import InputRows
from sundog.runtime.rows.identity import identity_of
from sundog.runtime.rows.inputs import ALL_ROWS, RowSource, open_rows
from sundog.runtime.rows.row_choice import RowChoice

if TYPE_CHECKING:
    from sundog.runtime.tables.relations import Relations


class FlowInputs:
    """This class holds the inputs of one plan. Nothing is read before it is asked; all methods raise InputError.

    `snapshot_dir`: keeps the rows of queries and functions, None for a folder that goes when the rows do. `choice`: the
    rows of the first input that are taken; of the others all are."""

    def __init__(self, plan: LogicalPlan, base_dir: Path, snapshot_dir: Path | None, choice: RowChoice) -> None:
        self._plan = plan
        self._base_dir = base_dir
        self._snapshot_dir = snapshot_dir
        self._choice = choice
        self._sources: dict[str, RowSource] = {}
        self._is_related = False

    @property
    def first(self) -> RowSource:
        """The rows of the first input, with those that are joined to it in a flow without tables."""
        name = self._plan.inputs[0].name
        made_of = (table for table in self._plan.tables if isinstance(table.source, InputRows))
        found = next((table for table in made_of if table.source.reads[0] == name), None)
        return self.alone(name) if found is None else self.source(found)

    def alone(self, name: str) -> RowSource:
        """Return the rows of an input, to which no other is joined."""
        return self.source(Table(name, InputRows(name), (), ()))

    @property
    def has_snapshots(self) -> bool:
        """True where rows of a query or a function are kept."""
        return any(source.path is None for source in self._plan.inputs)

    def source(self, table: Table) -> RowSource:
        """Return the rows of a table that is made of an input."""
        assert isinstance(table.source, InputRows), f"'{table.name}' is not made of an input"
        if table.name not in self._sources:
            by_name = {source.name: source for source in self._plan.inputs}
            inputs = [by_name[name] for name in table.reads if name in by_name]
            is_first = inputs[:1] == list(self._plan.inputs[:1])
            self._sources[table.name] = open_rows(
                inputs,
                base_dir=self._base_dir,
                snapshot_dir=self._snapshot_dir,
                choice=self._choice if is_first else ALL_ROWS,
            )
        return self._sources[table.name]

    def sources(self) -> Iterator[tuple[Table, RowSource]]:
        """Yield each table that is made of an input, with its rows."""
        for table in self._plan.tables:
            if isinstance(table.source, InputRows):
                yield table, self.source(table)

    @cached_property
    def relations(self) -> Relations:
        """The relations that queries read. Inputs are loaded when they are asked for."""
        from sundog.runtime.tables.relations import Relations  # what reads queries, which few flows have

        self._is_related = True
        plan = self._plan
        return Relations(plan.inputs, self._base_dir, self._snapshot_dir, self._choice, plan.constants)

    def queried(self) -> list[str]:
        """Return the inputs that queries read, each once."""
        queries = [table for table in self._plan.tables if not isinstance(table.source, InputRows)]
        read = {name for table in queries for name in table.reads}
        return [source.name for source in self._plan.inputs if source.name in read]

    def count(self) -> int:
        """Return how many rows the tables have, where each is made of an input, else the inputs that they read. All
        inputs are read and checked for this."""
        queried = self.queried()
        for name in queried:
            self.relations.load_input(name)
        counts = [(table.reads[0], source.count()) for table, source in self.sources()]
        if len(counts) == len(self._plan.tables):
            return sum(number for _, number in counts)
        return sum({**dict(counts), **{name: self.relations.num_rows(name) for name in queried}}.values())

    def notes(self) -> tuple[tuple[str, str], ...]:
        """Return (input, what changes in its values when they are read), a sentence each."""
        return tuple(dict.fromkeys(note for _, source in self.sources() for note in source.notes()))

    def content_identity(self) -> Any:
        """Return a JSON value, equal for equal rows; see `identity_of` for queries and calls."""
        return {"inputs": identity_of(self._plan.inputs, self._base_dir), **self._choice.identity()}

    def close(self) -> None:
        """Let go of the files and of what was made of them."""
        for source in self._sources.values():
            source.close()
        self._sources.clear()
        if self._is_related:
            self.relations.close()
