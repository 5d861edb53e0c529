"""The rows between two operations of a pipeline, as a table of the flow that is being made.

Owns where each column comes from: a column of the table's source, or a field of one of its steps.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sundog.ir.templates.template import column_of_row

MAX_LOOKED_AT = 1_000
MAX_BYTES = 50_000_000


@dataclass(slots=True)
class TableDraft:
    """A table that is being made, one operation after the other."""

    name: str
    #: As in a flow: `from`, `query`, `collect`, `reduce` or `resolve`.
    source: dict[str, Any]
    #: Expressions by column, in order.
    columns: dict[str, str]
    #: The input or table whose rows these are, unless steps change them.
    reads: str | None = None
    nodes: dict[str, Any] = field(default_factory=dict)
    #: Templates by column, for the table after it alone.
    own: dict[str, str] = field(default_factory=dict)
    #: SQL types by column.
    types: dict[str, str] = field(default_factory=dict)
    #: The columns of its source.
    given: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.given = tuple(self.columns)

    @property
    def is_plain(self) -> bool:
        """Return whether its rows are those of its source as they are."""
        is_same = self.given == tuple(name for name, source in self.columns.items() if source == column_of_row(name))
        return is_same and len(self.given) == len(self.columns) and not self.nodes and not self.own

    def give(self, columns: Mapping[str, str]) -> None:
        """Add columns that the source has."""
        self.columns |= columns
        self.given = tuple(self.columns)

    def add_own(self, wish: str, template: str, type_: str | None = None) -> str:
        """Add a column that only the table after this one reads, and return its name."""
        taken, number, name = {one.lower() for one in (*self.columns, *self.own)}, 2, wish
        while name in taken:
            name, number = f"{wish}_{number}", number + 1
        self.own[name] = template
        if type_ is not None:
            self.types[name] = type_
        return name

    def outputs(self) -> dict[str, str]:
        return {name: f"{{{{ {expression} }}}}" for name, expression in self.columns.items()} | self.own

    def data(self) -> dict[str, Any]:
        """Return what stands under its name in `tables`."""
        if self.is_plain and ("query" in self.source or "reduce" in self.source):
            return self.source
        nodes = {"nodes": self.nodes} if self.nodes else {}
        return {**self.source, **nodes, "outputs": self.outputs(), **({"types": self.types} if self.types else {})}


def columns_of_rows(names: Iterable[str]) -> dict[str, str]:
    """Return the columns of a table that are its source's."""
    return {name: column_of_row(name) for name in names}


def columns_of_file(path: Path) -> list[str] | None:
    """Return the columns of a data set, as far as its first rows tell; None where it is not there or no table."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        if path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8-sig") as file:
                return next(csv.reader(file), None)
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows[:MAX_LOOKED_AT]):
        return None
    return list(dict.fromkeys(name for row in rows[:MAX_LOOKED_AT] for name in row))
