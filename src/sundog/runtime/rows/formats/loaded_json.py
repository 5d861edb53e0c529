"""Rows as JSON text in a table of DuckDB, with the columns and types that they have or are said to have.

Owns the loading, and the types that values show. Never decides what a column should be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import duckdb
import pyarrow as pa
from pydantic_core import to_json

from sundog.ir.sql_types import sql_name
from sundog.runtime.rows.duck import literal, new_name
from sundog.runtime.rows.table import InputRow

BATCH_ROWS = 2048
_MANY_DIGITS = re.compile(rb"\d{19}")
_NUMBERS = ("UBIGINT", "BIGINT", "HUGEINT", "DOUBLE")


class SeenTypes:
    """The types that the values of rows show, row by row: of whole numbers BIGINT, or HUGEINT where one needs it. What
    has several types that none holds together, or is null in every row, is JSON."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._structure: Any = "NULL"
        self._whole = "BIGINT"

    def lines(self, rows: Iterable[InputRow]) -> Iterator[bytes]:
        """Yield each row as a line of JSON. The types are known when all have been taken."""
        remaining = iter(rows)
        while some := list(islice(remaining, BATCH_ROWS)):
            lines = [to_json(row) for row in some]
            for line, row in zip(lines, some, strict=True):
                if self._whole == "BIGINT" and _MANY_DIGITS.search(line) and _has_huge(row):
                    self._whole = "HUGEINT"
            # DuckDB holds every document that it takes a structure of.
            ((found,),) = self._connection.execute(
                "SELECT json_group_structure(line::JSON) FROM (SELECT unnest(?) AS line)",
                [[line.decode() for line in lines]],
            ).fetchall()
            self._structure = _merged(self._structure, json.loads(found))
            yield from lines

    def of(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the types of columns, as `typed_select` takes them."""
        found: Mapping[str, Any] = self._structure if isinstance(self._structure, dict) else {}
        return {name: _narrow(found.get(name, "NULL"), self._whole) for name in names}


def typed_select(table: str, types: Mapping[str, Any]) -> str:
    """Return a select of the lines of `table`, in order, with columns of the given types: their SQL text, or a
    structure as DuckDB's from_json takes it."""
    columns = ", ".join(f"s.{sql_name(name)} AS {sql_name(name)}" for name in types)
    return f"SELECT {columns} FROM (SELECT from_json(line, {literal(json.dumps(types))}) AS s FROM {table})"


def load_lines(connection: duckdb.DuckDBPyConnection, table: str, lines: Iterable[bytes]) -> None:
    """Make `table` with one column `line`, in the order of `lines`; few of them are in Python's memory at once."""
    connection.execute(f"CREATE TABLE {table} (line VARCHAR)")
    remaining, batch_name = iter(lines), new_name("batch")
    while some := list(islice(remaining, BATCH_ROWS)):
        batch = pa.table({"line": pa.array([line.decode() for line in some], pa.string())})
        connection.register(batch_name, batch)
        connection.execute(f"INSERT INTO {table} SELECT line FROM {batch_name}")
        connection.unregister(batch_name)


def _merged(left: Any, right: Any) -> Any:
    """Return the structure of values of which some have the structure `left` and some `right`."""
    if left == right or right == "NULL":
        return left
    if left == "NULL":
        return right
    match left, right:
        case dict(), dict():
            names = dict.fromkeys((*left, *right))
            return {name: _merged(left.get(name, "NULL"), right.get(name, "NULL")) for name in names}
        case [one], [other]:
            return [_merged(one, other)]
        case str(), str() if left in _NUMBERS and right in _NUMBERS:
            return max(left, right, key=_NUMBERS.index)
    return "JSON"


def _narrow(structure: Any, whole: str) -> Any:
    """Return the structure of values with the type `whole` for whole numbers, and JSON where no value tells one."""
    match structure:
        case dict():
            return {name: _narrow(inner, whole) for name, inner in structure.items()} or "JSON"
        case list():
            return [_narrow(inner, whole) for inner in structure]
        case "UBIGINT" | "HUGEINT" | "BIGINT":
            return whole
        case "NULL":
            return "JSON"
    return structure


def _has_huge(value: Any) -> bool:
    match value:
        case dict():
            return any(map(_has_huge, value.values()))
        case list():
            return any(map(_has_huge, value))
        case int():
            return not -(2**63) <= value < 2**63
    return False
