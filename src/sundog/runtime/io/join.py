"""Inputs joined to the driving one, by key.

Owns the join's SQL and what a key must be: unique, and of the driving column's kind. The driving rows keep their
order and none is lost; a row without a partner has null.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from sundog.errors import InputError, Location
from sundog.runtime.io.duck import stream
from sundog.runtime.io.failures import shorten
from sundog.runtime.io.table import Row, Table

Numbered = tuple[int, list[Row]]


@dataclass(frozen=True, slots=True)
class Joined:
    """`table` is joined where its column `own_column` equals the driving column `driving_column`."""

    table: Table
    own_column: str
    driving_column: str
    location: Location | None


def check_join(connection: duckdb.DuckDBPyConnection, driver: Table, joined: Joined) -> None:
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


def read_joined(
    connection: duckdb.DuckDBPyConnection,
    driver: Table,
    joins: Sequence[Joined],
    start_row: int,
    end_row: int | None,
    size: int,
) -> Iterator[tuple[int, list[tuple[Any, ...]]]]:
    """(index of the first, rows) of consecutive driving rows; `Splitter` takes the rows apart."""
    scan = driver.scan()
    keys = [driver.key(joined.driving_column).expression for joined in joins]
    named_keys = "".join(f", {key} AS k{number}" for number, key in enumerate(keys))
    parts = [f"d AS (SELECT row_number() OVER () - 1 AS row_index{named_keys}, * FROM ({scan.select}))"]
    columns = ["d.row_index", *(f"d.c{index}" for index in range(scan.width))]
    clauses = []
    for number, joined in enumerate(joins):
        own = joined.table.scan()
        key = joined.table.key(joined.own_column).expression
        parts.append(f"j{number} AS (SELECT {key} AS k, * FROM ({own.select}))")
        columns += [f"j{number}.k IS NOT NULL", *(f"j{number}.c{index}" for index in range(own.width))]
        clauses.append(f"LEFT JOIN j{number} ON j{number}.k = d.k{number}")
    end = "" if end_row is None else f" AND d.row_index < {end_row}"
    sql = (
        f"WITH {', '.join(parts)} SELECT {', '.join(columns)} FROM d {' '.join(clauses)}"
        f" WHERE d.row_index >= {start_row}{end} ORDER BY d.row_index"
    )
    for rows in stream(connection, sql, size):
        yield rows[0][0], rows


class Splitter:
    """Turns rows of `read_joined` into rows of the run."""

    def __init__(self, driver: Table, joins: Sequence[Joined]) -> None:
        self._scan = driver.scan()
        self._joins = [(joined.table.files.name, joined.table.scan()) for joined in joins]

    def decode(self, rows: Sequence[tuple[Any, ...]]) -> list[Row]:
        begin = 1 + self._scan.width
        decoded = self._scan.decode([row[1:begin] for row in rows])
        for name, scan in self._joins:
            end = begin + 1 + scan.width
            partners = iter(scan.decode([row[begin + 1 : end] for row in rows if row[begin]]))
            for row, source in zip(decoded, rows, strict=True):
                row[name] = next(partners) if source[begin] else None
            begin = end
        return decoded
