"""Types of DuckDB as types of a table's columns.

Owns which types pass from a query through a row into the next query. The rest becomes what a row makes of it: text, or
JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import cast

from duckdb.sqltypes import DuckDBPyType

from sundog.errors import FlowError
from sundog.ir.logical import Table
from sundog.ir.sql_types import JSON, VARCHAR, ListType, PlainType, SQLType, StructType
from sundog.runtime.rows.values.value_sql import WHOLE_TYPES, children_of, is_json

ColumnTypes = tuple[tuple[str, SQLType], ...]
"""Names and types of columns, in order."""
PASSING = frozenset(
    WHOLE_TYPES
    | {"boolean", "float", "double", "varchar", "decimal", "date", "time", "uuid"}
    | {"timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns", "timestamp with time zone"}
)
"""Types whose values are the same again after they were JSON in a row."""


def column_type(type: DuckDBPyType) -> SQLType:
    """Return the type that a column of rows has whose values were of `type` in a query."""
    if is_json(type):
        return JSON
    children = dict(children_of(type))
    match type.id:
        case id if id in PASSING:
            return PlainType(str(type))
        case "list":
            return _list_of(children["child"], None)
        case "array":
            return _list_of(children["child"], cast(int, dict(type.children)["size"]))
        case "struct" if all(children):
            return StructType(tuple((name, column_type(child)) for name, child in children.items()))
        case "map" | "union" | "variant" | "tuple" | "struct":
            return JSON
    return VARCHAR


def refuse_twice(table: Table, names: Sequence[str]) -> None:
    """Raise FlowError where two of `names` are one: SQL does not tell capitals from small letters."""
    count = Counter(name.lower() for name in names)
    for name in names:
        if count[name.lower()] > 1:
            given = "the query" if table.made_by is None else f"'{table.made_by}'"
            raise FlowError(
                f"{given} gives the table '{table.name}' the column '{name}' twice",
                where=table.location,
                hint="name the columns in place of *, or leave one out: * exclude (NAME)"
                if table.made_by is None
                else "a column of its source has that name: give the new one another with `as`",
            )


def _list_of(child: DuckDBPyType, length: int | None) -> SQLType:
    item = column_type(child)
    return JSON if item == JSON else ListType(item, length)
