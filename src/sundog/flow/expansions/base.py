"""The result of an expansion: tables as a user could have written them, and where each part of them was written.

Owns the way from a made table back to the block that it was made of. Never reads a template or a query.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sundog.errors import Location
from sundog.flow.positions import DataPath, Positions
from sundog.ir.tables import Candidates


@dataclass(frozen=True, slots=True)
class Expanded:
    """The tables that one block stands for, by name; the last of them has the block's own name."""

    tables: Mapping[str, Mapping[str, Any]]
    #: By a part of a made table, the part of the written block that it was taken from. Parts below it are alike.
    places: Mapping[DataPath, DataPath]
    #: By table of pairs, the words about them before they are judged.
    candidates: Mapping[str, Candidates] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExpandedTables:
    """The tables of a flow without short words."""

    tables: Mapping[str, Any]
    #: The word that each made table came from.
    made_by: Mapping[str, str] = field(default_factory=dict)
    #: As of `Expanded`.
    candidates: Mapping[str, Candidates] = field(default_factory=dict)


class MadePositions:
    """Positions of a flow whose made parts stand where what they were made of was written."""

    def __init__(self, written: Positions) -> None:
        self._written = written
        self._places: dict[DataPath, DataPath] = {}

    def add(self, places: Mapping[DataPath, DataPath]) -> None:
        """Say where made parts were written."""
        self._places.update(places)

    def key(self, path: DataPath) -> Location:
        return self._written.key(self._of(path))

    def value(self, path: DataPath) -> Location:
        return self._written.value(self._of(path))

    def match(self, path: DataPath, pattern: re.Pattern[str]) -> Location:
        return self._written.match(self._of(path), pattern)

    def _of(self, path: DataPath) -> DataPath:
        for length in range(len(path), 0, -1) if self._places else ():
            place = self._places.get(path[:length])
            if place is not None:
                return (*place, *path[length:])
        return path


def as_text(column: str) -> str:
    """Return the SQL of a column as text, whatever its type: a text in JSON is read without its quotes."""
    # DuckDB decides by the column's type which branch there is. Texts pass without a copy: it makes one of 2,048 rows.
    return f"(case when typeof({column}) = 'VARCHAR' then {column}::varchar else to_json({column})->>'$' end)"
