"""Rows into Parquet files: a pass for the types, a pass to write.

Owns types and row groups. Same rows, same bytes: a file holds no time and no name of a machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import to_json

from sundog.runtime.rows.values.column_type import ColumnType

if TYPE_CHECKING:
    from sundog.runtime.rows.formats.stored_rows import SizedRow

MAX_GROUP_ROWS = 32_768
MAX_GROUP_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class ParquetForm:
    """The columns of a file, or of several that are read as one, as the values of all their rows need them."""

    schema: pa.Schema
    #: The columns that become JSON text.
    as_text: tuple[str, ...]
    #: A sentence for each of `as_text`.
    warnings: tuple[str, ...]


def parquet_form(columns: Sequence[str], rows: Iterator[SizedRow]) -> ParquetForm:
    """Return the form of a file that holds `columns` of `rows`."""
    found = {name: ColumnType() for name in columns}
    for row, _ in rows:
        for name, column in found.items():
            column.observe(row[name])
    types = {name: column.arrow() for name, column in found.items()}
    schema = pa.schema([(name, type or pa.string()) for name, type in types.items()])
    as_text = tuple(name for name, type in types.items() if type is None)
    warnings = (f"column '{name}' is written as JSON text: it holds {found[name].describe()}" for name in as_text)
    return ParquetForm(schema, as_text, tuple(warnings))


def write_formed(stream: BinaryIO, form: ParquetForm, rows: Iterator[SizedRow]) -> None:
    """Write a file of `rows`, which are some of those that the form was made of."""
    schema = form.schema
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for group in _groups(rows):
            for name in form.as_text:
                for row in group:
                    if row[name] is not None:
                        row[name] = to_json(row[name]).decode()
            arrays = [pa.array([row[field.name] for row in group], type=field.type) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema), row_group_size=MAX_GROUP_ROWS)


def write_parquet(stream: BinaryIO, columns: Sequence[str], rows: Callable[[], Iterator[SizedRow]]) -> tuple[str, ...]:
    """Write what `rows()` gives, read twice; returns a warning for each column that had to become JSON text."""
    form = parquet_form(columns, rows())
    write_formed(stream, form, rows())
    return form.warnings


def _groups(rows: Iterator[SizedRow]) -> Iterator[list[dict[str, Any]]]:
    """Yield row groups, limited in rows and in bytes, so that long texts do not fill the memory."""
    group: list[dict[str, Any]] = []
    num_bytes = 0
    for row, size in rows:
        group.append(row)
        num_bytes += size
        if len(group) == MAX_GROUP_ROWS or num_bytes >= MAX_GROUP_BYTES:
            yield group
            group, num_bytes = [], 0
    if group:
        yield group
