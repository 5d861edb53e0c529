"""JSONL files: one JSON object per line, kept as it is.

Owns their reading. A row has every column that any line has; what a line lacks is null.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
from pydantic_core import from_json

from sundog.errors import InputError, SundogError
from sundog.ir.shape import Anything, ListOf, Record, Scalar, Shape
from sundog.runtime.io.duck import MAX_LINE_BYTES, file_list, literal, stream
from sundog.runtime.io.failures import explained, no_key_column, shorten, too_long, unreadable
from sundog.runtime.io.paths import InputFiles, open_bytes
from sundog.runtime.io.table import Key, Row, Scan
from sundog.runtime.io.values import json_text, pointer_to

NUM_SAMPLE_ROWS = 10_000
WHOLE_NUMBERS = {"BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT"}


class JSONTable:
    """A Table over `files`. `is_whole_shape`: look at every line for the shape, not at the first ones only."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, files: InputFiles, *, is_whole_shape: bool = False
    ) -> None:
        self._connection = connection
        self.files = files
        self._is_whole_shape = is_whole_shape
        self._keys: dict[str, Key] = {}

    def shape(self) -> Shape:
        sampled = shape_of_rows(self._sample)
        if not self._is_whole_shape:
            return sampled
        known = dict(sampled.fields) if isinstance(sampled, Record) else {}
        return Record(tuple((name, known.get(name, Anything())) for name in self._names)) if self._names else Anything()

    def count(self) -> int:
        return self._profile[0]

    def scan(self) -> Scan:
        blank: Row = dict.fromkeys(name for name in self._names if self.files.is_wanted(name))

        def decode(rows: Sequence[tuple[Any, ...]]) -> list[Row]:
            decoded = [from_json(text, allow_inf_nan=False) for (text,) in rows]
            return [row if row.keys() == blank.keys() else {name: row.get(name) for name in blank} for row in decoded]

        return Scan(f"SELECT json AS c0 FROM {self._reader}", 1, decode)

    def key(self, column: str) -> Key:
        if not self._names:
            return Key("CAST(NULL AS VARCHAR)", None)
        if column not in self._names:
            raise no_key_column(self.files, column, self._names)
        if column not in self._keys:
            self._keys[column] = self._find_key(column)
        return self._keys[column]

    def _find_key(self, column: str) -> Key:
        sql = f"SELECT DISTINCT json_type(json, {literal(pointer_to([column]))}) FROM {self._reader}"
        types = {row[0] for rows in stream(self._connection, sql) for row in rows} - {None, "NULL"}
        text = self.value([column])
        if not types:
            return Key(text, None)
        if types <= WHOLE_NUMBERS:
            return Key(f"CAST({text} AS HUGEINT)", "a whole number")
        return Key(text, "text" if types == {"VARCHAR"} else f"of JSON type {' and '.join(sorted(types))}")

    def value(self, path: Sequence[str]) -> str:
        return json_text("c0", path)

    def explain(self, error: duckdb.Error) -> SundogError:
        return self._bad_line() or unreadable(self.files.name, self.files.show(self.files.paths[0]), error)

    @property
    def _reader(self) -> str:
        return f"read_ndjson_objects({file_list(self.files.paths)}, maximum_object_size={MAX_LINE_BYTES})"

    @cached_property
    def _sample(self) -> list[Row]:
        with explained(self.explain):
            return self._parse(next(stream(self._connection, self._select, NUM_SAMPLE_ROWS), []))

    @property
    def _select(self) -> str:
        return f"SELECT json FROM {self._reader}"

    @cached_property
    def _names(self) -> list[str]:
        return self._profile[1]

    @cached_property
    def _profile(self) -> tuple[int, list[str]]:
        """The number of rows and every column, in the order of first appearance; each line is parsed."""
        num_rows = 0
        names: Row = {}
        with explained(self.explain):
            for texts in stream(self._connection, self._select):
                num_rows += len(texts)
                for row in self._parse(texts):
                    if not row.keys() <= names.keys():
                        names.update(row)
        return num_rows, list(names)

    def _parse(self, texts: Sequence[tuple[Any, ...]]) -> list[Row]:
        """Strictly: DuckDB is content with less than JSON."""
        try:
            rows = [from_json(text, allow_inf_nan=False) for (text,) in texts]
        except ValueError as error:
            raise (self._bad_line() or InputError(f"a line is not JSON: {error}", where=self.files.name)) from error
        if not all(type(row) is dict for row in rows):
            raise self._bad_line() or InputError("a line is not a JSON object", where=self.files.name)
        return rows

    def _bad_line(self) -> InputError | None:
        return next((error for path in self.files.paths if (error := self._bad_line_of(path))), None)

    def _bad_line_of(self, path: Path) -> InputError | None:
        number, where = 0, self.files.show(path)
        try:
            with open_bytes(path) as stream:
                for number, line in enumerate(stream, start=1):
                    if len(line) > MAX_LINE_BYTES:
                        return too_long(f"{where}:{number}")
                    complaint = _complaint(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
                    if complaint:
                        return InputError(
                            f"{complaint}: {shorten(line.decode('utf-8', 'replace'))!r}",
                            where=f"{where}:{number}",
                            hint='each line is one whole JSON object: {"column": value, ...}',
                        )
        except (OSError, EOFError) as error:
            return InputError(f"cannot read on after line {number}: {error}", where=where, hint="write the file again")
        return None


def shape_of_rows(rows: Iterable[Row]) -> Shape:
    """A record of every column seen; a nested record only where all its occurrences have the same fields."""
    columns: dict[str, Shape | None] = {}
    for row in rows:
        for name, value in row.items():
            columns[name] = _merge(columns.get(name), _shape_of(value))
    fields = tuple((name, shape or Anything()) for name, shape in columns.items())
    return Record(fields) if fields else Anything()


def _shape_of(value: Any) -> Shape | None:
    """None for null: it may yet be anything."""
    match value:
        case None:
            return None
        case dict():
            return Record(tuple((name, _shape_of(item) or Anything()) for name, item in value.items()))
        case list():
            item: Shape | None = None
            for element in value:
                item = _merge(item, _shape_of(element))
            return ListOf(item or Anything())
    return Scalar()


def _merge(left: Shape | None, right: Shape | None) -> Shape | None:
    if left is None or right is None or left == right:
        return left or right
    match left, right:
        case ListOf(item=one), ListOf(item=other):
            return ListOf(_merge(one, other) or Anything())
        case Record(fields=one), Record(fields=other) if dict(one).keys() == dict(other).keys():
            others = dict(other)
            return Record(tuple((name, _merge(shape, others[name]) or Anything()) for name, shape in one))
    return Anything()


def _complaint(line: bytes) -> str | None:
    if not line.strip():
        return None
    try:
        value = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        reason = re.sub(r" at line \d+ (column \d+)", r" at \1", str(error))
        return f"this line is not JSON ({reason})"
    return None if isinstance(value, dict) else "this line is not a JSON object"
