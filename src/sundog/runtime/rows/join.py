"""Inputs joined to the driving one, by key.

Owns what a key must be: unique, and of the driving column's kind; and how the rows of a `Relation` are taken apart. No
driving row is lost; a row without a partner has null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from sundog.errors import InputError
from sundog.execution.input_row import BadRow, InputRow
from sundog.runtime.rows.duck import stream
from sundog.runtime.rows.failures import shorten
from sundog.runtime.rows.relation import Joined
from sundog.runtime.rows.table import InputTable


def check_join(connection: duckdb.DuckDBPyConnection, driver: InputTable, joined: Joined) -> None:
    """Read all of the joined table; InputError where its key is not unique or can never match."""
    joined.table.count()
    own, driving = joined.table.key(joined.own_column), driver.key(joined.driving_column)
    name = f"{joined.table.files.name}.{joined.own_column}"
    if own.kind and driving.kind and own.kind != driving.kind:
        raise InputError(
            f"'{name}' is {own.kind} and '{driver.files.name}.{joined.driving_column}' is {driving.kind}: "
            "they can never be equal",
            where=joined.location,
            hint="give both one type: `types: {column: VARCHAR}` for csv files, or a `query:` with a cast",
        )
    sql = (
        f"SELECT k, count(*) FROM (SELECT {own.expression} AS k FROM ({joined.table.scan().select}))"
        " WHERE k IS NOT NULL GROUP BY k HAVING count(*) > 1 ORDER BY k LIMIT 1"
    )
    for ((value, times),) in stream(connection, sql):
        raise InputError(
            f"the key '{name}' must be unique, but {shorten(repr(value))} is there {times} times",
            where=joined.location,
            hint="remove the repeated rows, or use a `query:` that picks one of each",
        )


class Splitter:
    """Turns rows of a `Relation` into rows of the run."""

    def __init__(self, driver: InputTable, joins: Sequence[Joined]) -> None:
        self._scan = driver.scan()
        self._joins = [(joined.table.files.name, joined.table.scan()) for joined in joins]

    def decode(self, rows: Sequence[tuple[Any, ...]]) -> list[InputRow | BadRow]:
        """Return the driving rows, each with its joined rows under their inputs' names."""
        begin = 1 + self._scan.width
        decoded = self._scan.decode([row[1:begin] for row in rows])
        for name, scan in self._joins:
            end = begin + 1 + scan.width
            partners = iter(scan.decode([row[begin + 1 : end] for row in rows if row[begin]]))
            for index, source in enumerate(rows):
                decoded[index] = _with_partner(decoded[index], name, next(partners) if source[begin] else None)
            begin = end
        return decoded


def _with_partner(row: InputRow | BadRow, name: str, partner: InputRow | BadRow | None) -> InputRow | BadRow:
    if isinstance(row, BadRow):
        return row
    if isinstance(partner, BadRow):
        return BadRow(f"its row of input '{name}': {partner.reason}")
    row[name] = partner
    return row
