"""Columns of DuckDB as columns of JSON types.

Owns how the rows of a select are decoded, keyed and described. What each type becomes is in value_sql.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
from duckdb.sqltypes import DuckDBPyType

from sundog.execution.input_row import BadRow, InputRow
from sundog.ir.schemas.shape import Anything, ListOf, Record, Scalar, Shape
from sundog.ir.values.normal_form import INTEGER_BOUND, MAX_LEVELS, NoNormalForm, normal_form
from sundog.runtime.rows.duck import literal, stream
from sundog.runtime.rows.table import Decode, JoinKey
from sundog.runtime.rows.values.value_sql import (
    NESTED,
    TEXT_TYPES,
    WHOLE_TYPES,
    children_of,
    is_json,
    num_not_finite,
    selected,
)


@dataclass(frozen=True, slots=True)
class Column:
    """A named column."""

    name: str
    type: DuckDBPyType
    #: Selects it.
    expression: str
    #: The selected value is JSON text.
    is_json: bool
    #: Others wrote that text.
    is_foreign: bool = False
    #: An expression for the number of values that become null for being NaN or infinite, None where none can.
    num_nulled: str | None = None


def column_of(name: str, type: DuckDBPyType, source: str) -> Column:
    """Return how to read the SQL column `source` of `type`."""
    is_foreign = is_json(type) or type.id == "variant"
    is_text = is_foreign or type.id in NESTED
    return Column(name, type, selected(type, source), is_text, is_foreign, num_not_finite(type, source))


def select_list(columns: Sequence[Column]) -> str:
    return ", ".join(f"{column.expression} AS c{index}" for index, column in enumerate(columns))


def decoder(columns: Sequence[Column]) -> Decode:
    """Return what turns rows of the columns' expressions to rows in JSON types."""
    names = [column.name for column in columns]
    json_names = [column.name for column in columns if column.is_json]
    foreign = [column.name for column in columns if column.is_foreign]

    def decoded(values: tuple[Any, ...]) -> InputRow | BadRow:
        row = dict(zip(names, values, strict=True))
        try:
            for name in json_names:
                if row[name] is not None:
                    row[name] = json.loads(row[name], parse_int=whole_number)
            for name in foreign:
                row[name] = normal_form(row[name])
        except NoNormalForm as error:
            return BadRow(f"column '{name}': {error}")
        except RecursionError:
            return BadRow(f"column '{name}': the value is nested more than {MAX_LEVELS} levels deep")
        return row

    return lambda rows: [decoded(values) for values in rows]


def count_nulled(columns: Sequence[Column]) -> list[tuple[str, str]]:
    """Return (column, expression) of each column in which NaN or an infinity may become null: how many do in a row."""
    return [(column.name, column.num_nulled) for column in columns if column.num_nulled is not None]


def notes_on(connection: duckdb.DuckDBPyConnection, columns: Sequence[Column], reader: str) -> tuple[str, ...]:
    """Return what changes when `columns` of `reader` are read: a look at every value of those that may hold NaN."""
    counted = count_nulled(columns)
    if not counted:
        return ()
    sums = ", ".join(f"sum({expression})" for _, expression in counted)
    ((found,),) = stream(connection, f"SELECT {sums} FROM {reader}")
    return tuple(note_nulled(name, count) for (name, _), count in zip(counted, found, strict=True) if count)


def note_nulled(column: str, count: int) -> str:
    """Return what a user is told of values that become null."""
    return f"{count:,} values of column '{column}' are NaN or infinite, and become null"


def whole_number(digits: str) -> int:
    """Return the number; one that Python refuses to read is too large for a row in any case."""
    try:
        return int(digits)
    except ValueError:
        return INTEGER_BOUND


def shape_of(type: DuckDBPyType) -> Shape:
    """Return the shape of values of a DuckDB type; anything where the type leaves it open."""
    if is_json(type):
        return Anything()
    match type.id:
        case "struct":
            return Record(tuple((name, shape_of(child)) for name, child in children_of(type)))
        case "list" | "array":
            return ListOf(shape_of(dict(children_of(type))["child"]))
        case "map" | "union" | "variant":
            return Anything()
    return Scalar()


def key_of(columns: Sequence[Column], name: str) -> JoinKey | None:
    """Return the column called `name` as a key: whole numbers of any width match, text matches text, any other type
    only itself."""
    for index, column in enumerate(columns):
        if column.name == name:
            if column.type.id in WHOLE_TYPES:
                return JoinKey(f"CAST(c{index} AS HUGEINT)", "a whole number")
            if column.type.id in TEXT_TYPES:
                return JoinKey(f"CAST(c{index} AS VARCHAR)", "text")
            return JoinKey(f"c{index}", f"of type {column.type}")
    return None


def value_of(columns: Sequence[Column], path: Sequence[str]) -> str:
    """Return the text at `path`: a column, and then what lies in it."""
    index = next(index for index, column in enumerate(columns) if column.name == path[0])
    if len(path) == 1:
        return f"CAST(c{index} AS VARCHAR)"
    return json_text(f"c{index}", path[1:]) if columns[index].is_json else "CAST(NULL AS VARCHAR)"


def json_text(expression: str, path: Sequence[str]) -> str:
    """Return the text at `path` inside JSON."""
    return f"json_extract_string({expression}, {literal(pointer_to(path))})"


def pointer_to(path: Sequence[str]) -> str:
    """Return `path` as a JSON pointer."""
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)
