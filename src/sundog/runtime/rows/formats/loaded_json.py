"""Rows as JSON text in a table of DuckDB, with the columns and types that they have or are said to have.

Owns the loading, and the types that values show. Never decides what a column should be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import duckdb
import pyarrow as pa
from pydantic_core import to_json

from sundog.execution.input_row import InputRow
from sundog.ir.sql_types import sql_name
from sundog.runtime.rows.duck import literal, new_name

BATCH_ROWS = 2048
BATCH_BYTES = 8 * 2**20
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
        for lines in _batches(map(self._line, rows)):
            # DuckDB holds every document that it takes a structure of.
            ((found,),) = self._connection.execute(
                "SELECT json_group_structure(line::JSON) FROM (SELECT unnest(?) AS line)",
                [[line.decode() for line in lines]],
            ).fetchall()
            self._structure = _merged(self._structure, json.loads(found))
            yield from lines

    def _line(self, row: InputRow) -> bytes:
        line = to_json(row)
        if self._whole == "BIGINT" and _MANY_DIGITS.search(line) and _has_huge(row):
            self._whole = "HUGEINT"
        return line

    def of(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the types of columns, as `typed_select` takes them."""
        found: Mapping[str, Any] = self._structure if isinstance(self._structure, dict) else {}
        return {name: _narrow(found.get(name, "NULL"), self._whole) for name in names}


def typed_select(table: str, types: Mapping[str, Any]) -> str:
    """Return a select of the lines of `table`, in order, with columns of the given types: their SQL text, or a
    structure as DuckDB's from_json takes it."""
    columns = ", ".join(f"s.{sql_name(name)} AS {sql_name(name)}" for name in types)
    return f"SELECT {columns} FROM (SELECT from_json(line, {literal(json.dumps(types))}) AS s FROM {table})"


def load_lines(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    lines: Iterable[bytes],
    types: Mapping[str, Any] | None = None,
) -> None:
    """Make `table`, in the order of `lines`: with one column `line`, or with the columns that `typed_select` gives of
    `types`. Few lines are in memory as text at once."""
    batch_name = new_name("batch")
    select = f"SELECT line FROM {batch_name}" if types is None else typed_select(batch_name, types)
    is_made = False
    for batch in chain(_batches(lines), [[]]):
        # The last one is empty: it makes the table where there are no lines.
        if batch or not is_made:
            connection.register(
                batch_name, pa.table({"line": pa.array([line.decode() for line in batch], pa.string())})
            )
            connection.execute(f"INSERT INTO {table} {select}" if is_made else f"CREATE TABLE {table} AS {select}")
            connection.unregister(batch_name)
            is_made = True


def _batches(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield `lines` in lists of at most BATCH_ROWS, and of no more than BATCH_BYTES but for one line."""
    batch: list[bytes] = []
    num_bytes = 0
    for line in lines:
        if batch and (len(batch) == BATCH_ROWS or num_bytes + len(line) > BATCH_BYTES):
            yield batch
            batch, num_bytes = [], 0
        batch.append(line)
        num_bytes += len(line)
    if batch:
        yield batch


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
