"""CSV files: the header names the columns, all values of a column decide its type.

Owns the dialect and the typing. A column is a number only when every value in it is written as a plain number:
007, 12345678901234567890 and 1,5 stay text, and so do dates and fractions with more digits than a double holds. An
empty field is null, "" is empty text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

import duckdb
from duckdb.sqltypes import DuckDBPyType

from sundog.errors import InputError, SundogError, suggest
from sundog.ir.schemas.shape import Record, Shape
from sundog.ir.sql_types import sql_name
from sundog.runtime.rows.duck import MAX_LINE_BYTES, file_list, literal, stream
from sundog.runtime.rows.failures import different_columns, explained, no_key_column, shorten, too_long, unreadable
from sundog.runtime.rows.formats.csv_text import BadQuoting, delimiter_of, first_line_not_utf8, records
from sundog.runtime.rows.formats.kept_rows import kept_or_read
from sundog.runtime.rows.paths import UNREADABLE, InputFiles
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

EXACT_DIGITS = 15
"""A double keeps so many digits of any number; of more it keeps those that are its own shortest text."""
MAX_JUDGED, MAX_COUNTED = 100, 1000
"""Columns of one look at the files: the more there are, the longer DuckDB takes for each, and each takes memory."""
EMPTY, SHORT_WHOLE, LONG_WHOLE, DECIMAL, TRUTH, TEXT = 0, 1, 2, 4, 8, 16


class CSVTable:
    """An InputTable over `files`; `types` are DuckDB types of columns that must not be guessed."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, files: InputFiles, types: Mapping[str, str]) -> None:
        self._connection = connection
        self.files = files
        self._types = dict(types)
        self._delimiter = self._find_delimiter()
        self._names = self._read_headers()
        self._check_types()

    def shape(self) -> Shape:
        given = dict(zip(self._names, self._given_types, strict=True))
        return Record(tuple((name, shape_of(given[name])) for name in self._names))

    def count(self) -> int:
        return self._profile[0]

    def scan(self) -> Scan:
        columns = self._wanted
        return Scan(f"SELECT {select_list(columns)} FROM {self._source}", len(columns), decoder(columns))

    def key(self, column: str) -> JoinKey:
        key = key_of(self._wanted, column)
        if key is None:
            raise no_key_column(self.files, column, self._names)
        is_empty = column not in self._types and self._profile[1][column] == EMPTY
        return JoinKey(key.expression, None) if is_empty else key

    def value(self, path: Sequence[str]) -> str:
        return value_of(self._wanted, path)

    def relation(self) -> str:
        columns = ", ".join(f"{column} AS {sql_name(name)}" for name, column in self._raw_columns())
        return f"SELECT {columns} FROM {self._source}"

    def described(self) -> str:
        return self.relation()

    def num_bad(self) -> int:
        return 0

    def notes(self) -> tuple[str, ...]:
        with explained(self.explain):
            return notes_on(self._connection, self._wanted, self._source)

    def explain(self, error: duckdb.Error) -> SundogError:
        path = self.files.mentioned_in(str(error))
        if path is None:
            return unreadable(self.files.name, str(self.files.base_dir), error)
        bad_type = re.search(r'converting column "r(\d+)".*?string "(.*?)" to ', str(error), re.DOTALL)
        if bad_type:
            name = self._names[int(bad_type[1])]
            return InputError(
                f"'{shorten(bad_type[2])}' in column '{name}' is not of type {self._types[name]}",
                where=f"{self.files.show(path)}:{self._line_of(path, error)}",
                hint=f"correct the line, or give the column a wider type: types: {{{name}: VARCHAR}}",
            )
        return self._bad_record(path)

    @cached_property
    def _source(self) -> str:
        """The rows as a table; its columns are r0, r1, ..."""
        with explained(self.explain):
            return kept_or_read(self._connection, self.files.paths, self._reader)

    @property
    def _reader(self) -> str:
        """The files as a table function."""
        columns = ", ".join(
            f"'r{index}': {literal(self._types.get(name, 'VARCHAR'))}" for index, name in enumerate(self._names)
        )
        return (
            f"read_csv({file_list(self.files.paths)}, columns={{{columns}}}, delim={literal(self._delimiter)}, "
            f"header=true, auto_detect=false, quote='\"', escape='\"', strict_mode=true, allow_quoted_nulls=false, "
            f"hive_partitioning=false, max_line_size={MAX_LINE_BYTES}, buffer_size={2 * MAX_LINE_BYTES})"
        )

    @cached_property
    def _given_types(self) -> list[DuckDBPyType]:
        return list(self._connection.sql(f"SELECT * FROM {self._reader}").types)

    @cached_property
    def _profile(self) -> tuple[int, dict[str, int]]:
        """The number of rows, and for each wanted column without a given type what its values look like (bits). Every
        value of every column is read, so that a line that does not fit is found."""
        wanted = {name for name in self._names if self.files.is_wanted(name) and name not in self._types}
        counted = [f"count(r{index})" for index, name in enumerate(self._names) if name not in wanted]
        judged = [f"bit_or({_kind_of(f'r{index}')})" for index, name in enumerate(self._names) if name in wanted]
        num_rows, *found = self._looked_at(["count(*)", *judged[:MAX_JUDGED], *counted[:MAX_COUNTED]])
        for start in range(MAX_COUNTED, len(counted), MAX_COUNTED):
            self._looked_at(counted[start : start + MAX_COUNTED])
        kinds = list(found[: len(judged[:MAX_JUDGED])])
        for start in range(MAX_JUDGED, len(judged), MAX_JUDGED):
            kinds += self._looked_at(judged[start : start + MAX_JUDGED])
        asked = (name for name in self._names if name in wanted)
        return num_rows, {name: kind or EMPTY for name, kind in zip(asked, kinds, strict=True)}

    def _looked_at(self, expressions: Sequence[str]) -> Sequence[int]:
        """Aggregates over all rows."""
        with explained(self.explain):
            ((row,),) = stream(self._connection, f"SELECT {', '.join(expressions)} FROM {self._source}")
        return row

    def _raw_columns(self) -> Iterator[tuple[str, str]]:
        """Yield the name of each wanted column, and its expression in its own type."""
        for index, name in enumerate(self._names):
            if self.files.is_wanted(name):
                decided = self._decided(name)
                yield name, f"r{index}" if decided == "VARCHAR" else f"CAST(nullif(r{index}, '') AS {decided})"

    @cached_property
    def _wanted(self) -> list[Column]:
        given = dict(zip(self._names, self._given_types, strict=True))
        return [
            column_of(name, given[name], expression)
            if self._decided(name) == "VARCHAR"
            else Column(name, self._connection.type(self._decided(name)), expression, False)
            for name, expression in self._raw_columns()
        ]

    def _decided(self, name: str) -> str:
        """Return the type that the values of a column decide; VARCHAR, as which it is read, where it was given."""
        return "VARCHAR" if name in self._types else _type_of(self._profile[1][name])

    def _find_delimiter(self) -> str:
        path = self.files.paths[0]
        try:
            return delimiter_of(path)
        except UNREADABLE as error:
            raise self._unreadable(path, error) from error

    def _read_headers(self) -> list[str]:
        first, *others = self.files.paths
        names = self._read_header(first)
        for path in others:
            found = self._read_header(path)
            if found != names:
                raise different_columns(self.files, path, found, names)
        return names

    def _read_header(self, path: Path) -> list[str]:
        where = f"{self.files.show(path)}:1"
        try:
            _, names = next(records(path, self._delimiter), (1, []))
        except (BadQuoting, *UNREADABLE) as error:
            raise self._unreadable(path, error) from error
        if not names or "" in names:
            what = f"column {names.index('') + 1} has no name" if names else "the first line is blank"
            raise InputError(what, where=where, hint="the first line names the columns")
        repeated = [name for name, times in Counter(names).items() if times > 1]
        if repeated:
            raise InputError(f"the column '{repeated[0]}' is there twice", where=where, hint="rename one of them")
        return names

    def _check_types(self) -> None:
        where = f"{self.files.show(self.files.paths[0])}:1"
        for name, type in self._types.items():
            if name not in self._names:
                raise InputError(
                    f"`types` names '{name}', which is no column", where=where, hint=suggest(name, self._names)
                )
            try:
                self._connection.type(type)
            except duckdb.Error as error:
                raise InputError(
                    f"`types` gives '{name}' the type '{type}', which DuckDB does not know",
                    where=where,
                    hint="types are VARCHAR, BIGINT, DOUBLE, BOOLEAN, DATE, TIMESTAMP and the like",
                ) from error

    def _line_of(self, path: Path, error: duckdb.Error) -> int:
        """DuckDB counts records; a quoted field may hold line ends."""
        counted = re.search(r"CSV Error on Line: (\d+)", str(error))
        number = int(counted[1]) if counted else 1
        return next((line for line, _ in islice(records(path, self._delimiter), number - 1, None)), number)

    def _bad_record(self, path: Path) -> InputError:
        """Return the first line that does not have the header's number of fields, or breaks the rules of quoting."""
        where = self.files.show(path)
        try:
            for line, record in records(path, self._delimiter):
                if record and len(record) != len(self._names):
                    return InputError(
                        f"{len(record)} fields where the header names {len(self._names)}: "
                        f"{shorten(self._delimiter.join(record))!r}",
                        where=f"{where}:{line}",
                        hint="a field that holds the delimiter or a line end stands in double quotes",
                    )
                if sum(map(len, record)) > MAX_LINE_BYTES:
                    return too_long(f"{where}:{line}")
        except (BadQuoting, *UNREADABLE) as error:
            return self._unreadable(path, error)
        return InputError(
            "the lines do not all end in the same way, or a quote stands where none may be",
            where=where,
            hint="write it again with one kind of line end, and quotes only around whole fields",
        )

    def _unreadable(self, path: Path, error: Exception) -> InputError:
        where = self.files.show(path)
        match error:
            case BadQuoting():
                return InputError(
                    f"a quoted field does not end as it should ({error})",
                    where=f"{where}:{error.line}",
                    hint='a quote inside a quoted field is written twice: "say ""yes"""',
                )
            case UnicodeDecodeError():
                line = first_line_not_utf8(path)
                return InputError("this line is not UTF-8 text", where=f"{where}:{line}", hint="save the file as UTF-8")
        return InputError(f"cannot read the file: {error}", where=where, hint="it may be damaged; write it again")


def _kind_of(column: str) -> str:
    digits = f"ltrim(regexp_replace(regexp_replace({column}, '[eE].*$', ''), '[^0-9]', '', 'g'), '0')"
    return (
        f"CASE WHEN {column} IS NULL OR {column} = '' THEN {EMPTY}"
        f" WHEN regexp_full_match({column}, '0|-?[1-9][0-9]{{0,14}}') THEN {SHORT_WHOLE}"
        f" WHEN regexp_full_match({column}, '-?[1-9][0-9]{{15,17}}') THEN {LONG_WHOLE}"
        f" WHEN regexp_full_match({column}, '-?(0|[1-9][0-9]{{0,14}})([.][0-9]+)?([eE][+-]?[0-9]{{1,3}})?')"
        f" AND isfinite(TRY_CAST({column} AS DOUBLE)) AND (length({digits}) <= {EXACT_DIGITS}"
        f" OR CAST(TRY_CAST({column} AS DOUBLE) AS VARCHAR) = {column})"
        f" THEN {DECIMAL} WHEN lower({column}) IN ('true', 'false') THEN {TRUTH} ELSE {TEXT} END"
    )


def _type_of(kinds: int) -> str:
    """Return the narrowest type that keeps every value; whole numbers of more than 15 digits are no doubles."""
    if kinds == TRUTH:
        return "BOOLEAN"
    if kinds and kinds | SHORT_WHOLE | LONG_WHOLE == SHORT_WHOLE | LONG_WHOLE:
        return "BIGINT"
    if kinds and kinds | SHORT_WHOLE | DECIMAL == SHORT_WHOLE | DECIMAL:
        return "DOUBLE"
    return "VARCHAR"
