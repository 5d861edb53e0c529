"""DuckDB values as JSON values.

Owns what each DuckDB type becomes: whole numbers stay whole, decimals become numbers, dates and times ISO text,
blobs base64, NaN and infinities null, nested values what DuckDB's to_json says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from duckdb.sqltypes import DuckDBPyType

from sundog.ir.shape import Anything, ListOf, Record, Scalar, Shape
from sundog.runtime.io.duck import literal
from sundog.runtime.io.table import Decode, Key, Row

WHOLE = {
    "tinyint", "smallint", "integer", "bigint", "hugeint",
    "utinyint", "usmallint", "uinteger", "ubigint", "uhugeint",
}  # fmt: skip
TEXT = {"varchar", "enum"}
NESTED = {"struct", "list", "array", "map", "union", "variant"}


@dataclass(frozen=True, slots=True)
class Column:
    """A named column: `expression` selects it, `is_json` when what it selects is JSON text."""

    name: str
    type: DuckDBPyType
    expression: str
    is_json: bool


def column_of(name: str, type: DuckDBPyType, source: str) -> Column:
    """How to read the SQL column `source` of `type`."""
    if _is_json(type):
        return Column(name, type, source, True)
    expression = _expression(type, source)
    return Column(name, type, expression, type.id in NESTED)


def select_list(columns: Sequence[Column]) -> str:
    return ", ".join(f"{column.expression} AS c{index}" for index, column in enumerate(columns))


def decoder(columns: Sequence[Column]) -> Decode:
    """Rows of the columns' expressions to rows in JSON types."""
    names = [column.name for column in columns]
    json_names = [column.name for column in columns if column.is_json]

    def decode(rows: Sequence[tuple[Any, ...]]) -> list[Row]:
        decoded = [dict(zip(names, row, strict=True)) for row in rows]
        for name in json_names:
            for row in decoded:
                row[name] = _parse(row[name])
        return decoded

    return decode


def shape_of(type: DuckDBPyType) -> Shape:
    if _is_json(type):
        return Anything()
    match type.id:
        case "struct":
            return Record(tuple((name, shape_of(child)) for name, child in _children(type)))
        case "list" | "array":
            return ListOf(shape_of(dict(_children(type))["child"]))
        case "map" | "union" | "variant":
            return Anything()
    return Scalar()


def key_of(columns: Sequence[Column], name: str) -> Key | None:
    """The column called `name` as a key: whole numbers of any width match, text matches text, any other type
    only itself."""
    for index, column in enumerate(columns):
        if column.name == name:
            if column.type.id in WHOLE:
                return Key(f"CAST(c{index} AS HUGEINT)", "a whole number")
            if column.type.id in TEXT:
                return Key(f"CAST(c{index} AS VARCHAR)", "text")
            return Key(f"c{index}", f"of type {column.type}")
    return None


def value_of(columns: Sequence[Column], path: Sequence[str]) -> str:
    """The text at `path`: a column, and then what lies in it."""
    index = next(index for index, column in enumerate(columns) if column.name == path[0])
    if len(path) == 1:
        return f"CAST(c{index} AS VARCHAR)"
    return json_text(f"c{index}", path[1:]) if columns[index].is_json else "CAST(NULL AS VARCHAR)"


def json_text(expression: str, path: Sequence[str]) -> str:
    """The text at `path` inside JSON."""
    return f"json_extract_string({expression}, {literal(pointer_to(path))})"


def pointer_to(path: Sequence[str]) -> str:
    """`path` as a JSON pointer."""
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)


def _children(type: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    return [(name, child) for name, child in type.children if isinstance(child, DuckDBPyType)]


def _is_json(type: DuckDBPyType) -> bool:
    return str(type) == "JSON"


def _expression(type: DuckDBPyType, source: str) -> str:
    match type.id:
        case "boolean":
            return source
        case id if id in WHOLE or id in TEXT:
            return source
        case "float" | "double":
            return f"CASE WHEN isfinite({source}) THEN {source} END"
        case "decimal":
            return f"CAST({source} AS {'HUGEINT' if dict(type.children)['scale'] == 0 else 'DOUBLE'})"
        case id if id.startswith("timestamp"):
            return f"replace(CAST({source} AS VARCHAR), ' ', 'T')"
        case "blob":
            return f"base64({source})"
        case id if id in NESTED:
            return f"CAST(to_json({source}) AS VARCHAR)"
    return f"CAST({source} AS VARCHAR)"


def _parse(text: str | None) -> Any:
    return None if text is None else json.loads(text, parse_constant=lambda constant: None)
