"""Parquet files: names and types are in the file.

Owns nothing but their reading. Files read together have the same column names; DuckDB widens their types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from sundog.errors import InputError, SundogError, error_text
from sundog.ir.schemas.shape import Record, Shape
from sundog.ir.sql_types import sql_name
from sundog.runtime.rows.duck import file_list
from sundog.runtime.rows.failures import different_columns, explained, no_key_column, unreadable
from sundog.runtime.rows.paths import InputFiles
from sundog.runtime.rows.table import JoinKey, Scan
from sundog.runtime.rows.values.decoding import (
    Column,
    column_of,
    decoder,
    key_of,
    notes_on,
    select_list,
    shape_of,
    value_of,
)

MAX_DECIMAL_DIGITS = 38
"""DuckDB reads wider ones as doubles."""


class ParquetTable:
    """An InputTable over `files`; only their footers are read before the first row."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, files: InputFiles) -> None:
        self._connection = connection
        self.files = files
        self._names, self._num_rows = self._read_footers()

    def shape(self) -> Shape:
        return Record(tuple((column.name, shape_of(column.type)) for column in self._columns))

    def count(self) -> int:
        return self._num_rows

    def scan(self) -> Scan:
        columns = self._wanted
        return Scan(f"SELECT {select_list(columns)} FROM {self._reader}", len(columns), decoder(columns))

    def key(self, column: str) -> JoinKey:
        key = key_of(self._wanted, column)
        if key is None:
            raise no_key_column(self.files, column, self._names)
        return key

    def value(self, path: Sequence[str]) -> str:
        return value_of(self._wanted, path)

    def relation(self) -> str:
        columns = (
            f"r{index} AS {sql_name(name)}" for index, name in enumerate(self._names) if self.files.is_wanted(name)
        )
        return f"SELECT {', '.join(columns)} FROM {self._reader}"

    def described(self) -> str:
        return self.relation()

    def num_bad(self) -> int:
        return 0

    def notes(self) -> tuple[str, ...]:
        with explained(self.explain):
            return notes_on(self._connection, self._wanted, self._reader)

    def explain(self, error: duckdb.Error) -> SundogError:
        path = self.files.mentioned_in(str(error))
        return unreadable(self.files.name, self.files.show(path) if path else str(self.files.base_dir), error)

    @property
    def _wanted(self) -> list[Column]:
        return [column for column in self._columns if self.files.is_wanted(column.name)]

    @property
    def _reader(self) -> str:
        names = ", ".join(f"r{index}" for index in range(len(self._names)))
        files = file_list(self.files.paths)
        return f"read_parquet({files}, union_by_name=true, hive_partitioning=false) AS t({names})"

    @cached_property
    def _columns(self) -> list[Column]:
        with explained(self.explain):
            types = self._connection.sql(f"SELECT * FROM {self._reader}").types
        return [
            column_of(name, type, f"r{index}")
            for index, (name, type) in enumerate(zip(self._names, types, strict=True))
        ]

    def _read_footers(self) -> tuple[list[str], int]:
        first, *others = self.files.paths
        names, num_rows = self._read_footer(first)
        for path in others:
            found, more_rows = self._read_footer(path)
            if set(found) != set(names):
                raise different_columns(self.files, path, found, names)
            num_rows += more_rows
        return names, num_rows

    def _read_footer(self, path: Path) -> tuple[list[str], int]:
        try:
            with pq.ParquetFile(path) as file:
                names, num_rows = list(file.schema_arrow.names), file.metadata.num_rows
                wide = [column.name for column in file.schema_arrow if _holds_wide_decimals(column.type)]
        except (pa.ArrowException, OSError, ValueError) as error:  # also for names that are no text
            raise InputError(
                "this is not a readable parquet file",
                where=self.files.show(path),
                hint=f"it may be half written or of another format ({error_text(error).partition(chr(10))[0]})",
            ) from error
        repeated = [name for name, times in Counter(name.lower() for name in names).items() if times > 1]
        if repeated:
            raise InputError(
                f"the column '{repeated[0]}' is there twice (upper and lower case count as the same)",
                where=self.files.show(path),
                hint="rename one of them",
            )
        if wide:
            raise InputError(
                f"column '{wide[0]}' holds decimals of more than {MAX_DECIMAL_DIGITS} digits, which would be rounded",
                where=self.files.show(path),
                hint=f"write it as text, or as decimal({MAX_DECIMAL_DIGITS}, ...) where that holds its values",
            )
        return names, num_rows


def _holds_wide_decimals(type: pa.DataType) -> bool:
    if pa.types.is_decimal(type):
        return bool(type.precision > MAX_DECIMAL_DIGITS)
    return any(_holds_wide_decimals(type.field(index).type) for index in range(type.num_fields))
