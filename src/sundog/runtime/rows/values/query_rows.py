"""Rows that a query of DuckDB gives, in JSON types.

Owns the way from a query's values to rows, and the count of what becomes null on it. Never decides what is queried.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import duckdb
from duckdb.sqltypes import DuckDBPyType
from pydantic_core import to_json

from sundog.execution.input_row import BadRow, InputRow
from sundog.runtime.rows.duck import fetched
from sundog.runtime.rows.formats.json_line import bad_line
from sundog.runtime.rows.values.decoding import column_of, count_nulled, decoder, select_list


class QueryRow(NamedTuple):
    """A row of a query."""

    #: The value of each column as DuckDB gave it.
    values: tuple[Any, ...]
    row: InputRow | BadRow
    #: The values of the columns that stand behind those of the row.
    keys: tuple[int, ...]


def query_rows(
    cursor: duckdb.DuckDBPyConnection,
    query: str,
    types: Mapping[str, DuckDBPyType],
    nulled: Counter[str],
    *,
    num_keys: int = 0,
    parameters: Mapping[str, Any] | None = None,
) -> Iterator[QueryRow]:
    """Yield the rows of `query` in its order. `types`: its columns, but for `num_keys` numbers behind them. `nulled`
    counts by column the values that become null for being NaN or infinite. Raises what DuckDB raises."""
    columns = [column_of(name, type, f"r{index}") for index, (name, type) in enumerate(types.items())]
    width, counted = len(columns), count_nulled(columns)
    names = [f"r{index}" for index in range(width + num_keys)]
    selection = [select_list(columns), *names[width:], *(expression for _, expression in counted)]
    sql = f"SELECT {', '.join(selection)} FROM ({query}\n) AS t({', '.join(names)})"
    decode = decoder(columns)
    for rows in fetched(cursor, sql, parameters=parameters):
        for place, (name, _) in enumerate(counted, start=width + num_keys):
            nulled[name] += sum(row[place] for row in rows)
        for row, values in zip(decode([row[:width] for row in rows]), rows, strict=True):
            yield QueryRow(values[:width], row, values[width : width + num_keys])


def json_lines(
    cursor: duckdb.DuckDBPyConnection,
    query: str,
    types: Mapping[str, DuckDBPyType],
    nulled: Counter[str],
    *,
    num_keys: int = 0,
    parameters: Mapping[str, Any] | None = None,
) -> Iterator[bytes]:
    """Yield the rows of `query_rows` without their keys, a line of JSON for each, or a `bad_line`."""
    for found in query_rows(cursor, query, types, nulled, num_keys=num_keys, parameters=parameters):
        if isinstance(found.row, BadRow):
            yield bad_line(found.row.reason, dict(zip(types, found.values, strict=True))) + b"\n"
        else:
            yield to_json(found.row) + b"\n"
