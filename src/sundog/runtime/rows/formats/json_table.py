"""JSONL files: one JSON object per line, kept as it is.

Owns their reading. A row has every column that any line has; what a line lacks is null. A line that holds what no row
can hold is a bad row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from sundog.errors import InputError, SundogError
from sundog.execution.input_row import BadRow, InputRow
from sundog.ir.schemas.shape import Anything, ListOf, Record, Scalar, Shape
from sundog.runtime.rows.duck import MAX_LINE_BYTES, file_list, literal, new_name, stream
from sundog.runtime.rows.failures import explained, no_key_column, shorten, too_long, unreadable
from sundog.runtime.rows.formats.json_line import NotARow, bad_line, bad_row_of, object_in, row_of
from sundog.runtime.rows.formats.kept_rows import kept_or_read
from sundog.runtime.rows.paths import UNREADABLE, InputFiles, open_bytes
from sundog.runtime.rows.table import JoinKey, Scan
from sundog.runtime.rows.values.decoding import json_text, pointer_to

T = TypeVar("T")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
NUM_SAMPLE_ROWS = 10_000
WHOLE_NUMBERS = {"BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT"}


class JSONTable:
    """An InputTable over `files`. `scratch_dir`: for copies without what DuckDB cannot read. `is_snapshot`: every
    line is looked at for the shape, not the first ones only, and a `bad_line` is a bad row."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        files: InputFiles,
        scratch_dir: Path,
        *,
        is_snapshot: bool = False,
    ) -> None:
        self._connection = connection
        self.files = files
        self._scratch_dir = scratch_dir
        self._is_snapshot = is_snapshot
        self._keys: dict[str, JoinKey] = {}
        self._copies: tuple[Path, ...] = ()
        self._opened: str | None = None
        #: None before all rows have been looked at.
        self._num_bad: int | None = None

    def shape(self) -> Shape:
        sampled = shape_of_rows(self._sample)
        if not self._is_snapshot:
            return sampled
        known = dict(sampled.fields) if isinstance(sampled, Record) else {}
        return Record(tuple((name, known.get(name, Anything())) for name in self._names)) if self._names else Anything()

    def count(self) -> int:
        return self._profile[0]

    def scan(self) -> Scan:
        blank: InputRow = dict.fromkeys(name for name in self._names if self.files.is_wanted(name))

        def decoded(text: str) -> InputRow | BadRow:
            row = self._parse(text)
            if isinstance(row, BadRow) or row.keys() == blank.keys():
                return row
            return {name: row.get(name) for name in blank}

        return Scan(f"SELECT json AS c0 FROM {self._source}", 1, lambda rows: [decoded(text) for (text,) in rows])

    def key(self, column: str) -> JoinKey:
        if not self._names:
            return JoinKey("CAST(NULL AS VARCHAR)", None)
        if column not in self._names:
            raise no_key_column(self.files, column, self._names)
        if column not in self._keys:
            self._keys[column] = self._find_key(column)
        return self._keys[column]

    def _find_key(self, column: str) -> JoinKey:
        sql = f"SELECT DISTINCT json_type(json, {literal(pointer_to([column]))}) FROM {self._source}"
        types = {row[0] for rows in stream(self._connection, sql) for row in rows} - {None, "NULL"}
        text = self.value([column])
        if not types:
            return JoinKey(text, None)
        if types <= WHOLE_NUMBERS:
            return JoinKey(f"CAST({text} AS HUGEINT)", "a whole number")
        return JoinKey(text, "text" if types == {"VARCHAR"} else f"of JSON type {' and '.join(sorted(types))}")

    def value(self, path: Sequence[str]) -> str:
        return json_text("c0", path)

    def relation(self) -> str:
        from sundog.runtime.rows.formats.loaded_json import SeenTypes, load_lines, typed_select  # pyarrow

        table, types = new_name("lines"), SeenTypes(self._connection)
        with explained(self.explain):
            load_lines(self._connection, table, types.lines(self._good_rows()))
        return typed_select(table, types.of([*filter(self.files.is_wanted, self._names)]))

    def described(self) -> str:
        from sundog.runtime.rows.formats.loaded_json import SeenTypes, typed_select  # pyarrow

        types = SeenTypes(self._connection)
        with explained(self.explain):
            for _ in types.lines(self._good_rows()):
                pass
        lines = "(SELECT NULL::VARCHAR AS line)"
        return typed_select(lines, types.of([*filter(self.files.is_wanted, self._names)]))

    def num_bad(self) -> int:
        if self._num_bad is None:
            with explained(self.explain):
                for _ in self._good_rows():
                    pass
        return self._num_bad or 0

    def _good_rows(self) -> Iterator[InputRow]:
        scan, num_bad = self.scan(), 0
        for rows in stream(self._connection, scan.select):
            for row in scan.decode(rows):
                if isinstance(row, BadRow):
                    num_bad += 1
                else:
                    yield row
        self._num_bad = num_bad

    def notes(self) -> tuple[str, ...]:
        return self.files.notes

    def explain(self, error: duckdb.Error) -> SundogError:
        return self._bad_line() or unreadable(self.files.name, self.files.show(self.files.paths[0]), error)

    @property
    def _source(self) -> str:
        """The lines as a table of one column; first asked for inside `_read`, which makes copies where it must."""
        if self._opened is None:
            paths = self._copies or self.files.paths
            reader = f"read_ndjson_objects({file_list(paths)}, maximum_object_size={MAX_LINE_BYTES})"
            self._opened = kept_or_read(self._connection, paths, reader)
        return self._opened

    @cached_property
    def _sample(self) -> list[InputRow]:
        def read() -> list[InputRow]:
            texts = next(stream(self._connection, self._select, NUM_SAMPLE_ROWS), [])
            return [row for (text,) in texts if not isinstance(row := self._checked(text), BadRow)]

        return self._read(read)

    @property
    def _select(self) -> str:
        return f"SELECT json FROM {self._source}"

    @cached_property
    def _names(self) -> list[str]:
        return self._profile[1]

    @cached_property
    def _profile(self) -> tuple[int, list[str]]:
        """The number of rows and every column, in the order of first appearance; each line is parsed."""

        def read() -> tuple[int, list[str]]:
            num_rows = 0
            names: InputRow = {}
            for texts in stream(self._connection, self._select):
                num_rows += len(texts)
                for (text,) in texts:
                    row = self._checked(text)
                    if not isinstance(row, BadRow) and not row.keys() <= names.keys():
                        names.update(row)
            return num_rows, list(names)

        return self._read(read)

    def _read(self, read: Callable[[], T]) -> T:
        """Return what `read` gives. DuckDB refuses a file for a half of a surrogate pair; such lines are bad rows, so
        that it reads a copy in which they are marked."""
        with explained(self.explain):
            try:
                return read()
            except duckdb.InvalidInputException:
                if self._copies or self._bad_line() is not None:
                    raise
                self._copies = tuple(self._marked(index, path) for index, path in enumerate(self.files.paths))
                self._opened = None
                return read()

    def _marked(self, index: int, path: Path) -> Path:
        """Return a copy of `path` in which each bad row is a `bad_line`."""
        copy = self._scratch_dir / f"{self.files.name}-{index}.jsonl"
        with open_bytes(path) as lines, copy.open("wb") as marked:
            for line in lines:
                text = line.removeprefix(BYTE_ORDER_MARK)
                row = row_of(text) if text.strip() else None
                marked.write(bad_line(row.reason, object_in(text)) + b"\n" if isinstance(row, BadRow) else line)
        return copy

    def _parse(self, text: str) -> InputRow | BadRow:
        bad = bad_row_of(text) if self._copies or self._is_snapshot else None
        return row_of(text) if bad is None else bad

    def _checked(self, text: str) -> InputRow | BadRow:
        """Return the row; InputError with the line where it is none."""
        try:
            return self._parse(text)
        except NotARow as error:
            raise (self._bad_line() or InputError(str(error), where=self.files.name)) from error

    def _bad_line(self) -> InputError | None:
        return next((error for path in self.files.paths if (error := self._bad_line_of(path))), None)

    def _bad_line_of(self, path: Path) -> InputError | None:
        number, unit = 0, "element" if self.files.written_from else "line"
        try:
            with open_bytes(path) as stream:
                for number, line in enumerate(stream, start=1):
                    where = self.files.show_line(path, number)
                    if len(line) > MAX_LINE_BYTES:
                        return too_long(where)
                    complaint = _complaint(line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line)
                    if complaint:
                        return InputError(
                            f"{complaint}: {shorten(line.decode('utf-8', 'replace'))!r}",
                            where=where,
                            hint=f'each {unit} is one whole JSON object: {{"column": value, ...}}',
                        )
        except UNREADABLE as error:
            return InputError(
                f"cannot read on after line {number}: {error}",
                where=self.files.show(path),
                hint="it may be damaged; write the file again",
            )
        return None


def shape_of_rows(rows: Iterable[InputRow]) -> Shape:
    """Return a record of every column seen; a nested record only where all its occurrences have the same fields."""
    columns: dict[str, Shape | None] = {}
    for row in rows:
        for name, value in row.items():
            columns[name] = _merge(columns.get(name), _shape_of(value))
    fields = tuple((name, shape or Anything()) for name, shape in columns.items())
    return Record(fields) if fields else Anything()


def _shape_of(value: Any) -> Shape | None:
    """Return the shape; None for null, which may yet be anything."""
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
        row_of(line)
    except NotARow as error:
        return str(error)
    return None
