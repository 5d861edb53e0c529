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

from sundog.runtime.rows.duck import literal, new_name, quoted, stream
from sundog.runtime.rows.table import InputRow

BATCH_ROWS = 2048
_MANY_DIGITS = re.compile(rb"\d{19}")


def loaded_rows(connection: duckdb.DuckDBPyConnection, rows: Iterable[InputRow], names: Sequence[str]) -> str:
    """Load `rows` and return a select of them with the columns `names`, whose types are those that all values together
    have: of whole numbers BIGINT, or HUGEINT where one needs it. All rows are read before it returns."""
    table, whole = new_name("lines"), "BIGINT"

    def lines() -> Iterator[bytes]:
        nonlocal whole
        for row in rows:
            line = to_json(row)
            if _MANY_DIGITS.search(line) and _has_huge(row):
                whole = "HUGEINT"
            yield line

    load_lines(connection, table, lines())
    ((structure,),) = next(stream(connection, f"SELECT json_group_structure(line::JSON) FROM {table}"), [(None,)])
    found: Mapping[str, Any] = {} if structure is None else json.loads(structure)
    return typed_select(table, {name: _narrow(found.get(name, "NULL"), whole) for name in names})


def typed_select(table: str, types: Mapping[str, Any]) -> str:
    """Return a select of the lines of `table`, in order, with columns of the given types: their SQL text, or a
    structure as DuckDB's from_json takes it."""
    columns = ", ".join(f"s.{quoted(name)} AS {quoted(name)}" for name in types)
    return f"SELECT {columns} FROM (SELECT from_json(line, {literal(json.dumps(types))}) AS s FROM {table})"


def load_lines(connection: duckdb.DuckDBPyConnection, table: str, lines: Iterable[bytes]) -> None:
    """Make `table` with one column `line`, in the order of `lines`; few of them are in Python's memory at once."""
    connection.execute(f"CREATE TABLE {table} (line VARCHAR)")
    remaining = iter(lines)
    while some := list(islice(remaining, BATCH_ROWS)):
        batch = pa.table({"line": pa.array([line.decode() for line in some], pa.string())})
        connection.register("__batch", batch)
        connection.execute(f"INSERT INTO {table} SELECT line FROM __batch")
        connection.unregister("__batch")


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
