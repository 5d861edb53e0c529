"""The rows of a run: opened, counted, identified, and read in order.

Owns the choice of rows (limit, sample) and their numbers. The formats, joins and snapshots are in their own modules.
"""

from __future__ import annotations

import random
import shutil
import tempfile
import weakref
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from sundog.cost.row_statistics import RowFields, RowStatistics
from sundog.errors import InputError, SundogError
from sundog.execution.input_row import BadRow, InputRow
from sundog.ir.logical import InputSource
from sundog.ir.schemas.shape import Record, Shape
from sundog.ir.templates.template import Path as ValuePath
from sundog.runtime.rows.duck import connect_duckdb, scratch_table, stream
from sundog.runtime.rows.failures import explained, unreadable
from sundog.runtime.rows.formats.open_table import open_table
from sundog.runtime.rows.identity import identity_of
from sundog.runtime.rows.join import Splitter, check_join
from sundog.runtime.rows.picked import evenly_picked
from sundog.runtime.rows.relation import Joined, Relation
from sundog.runtime.rows.row_choice import RowChoice
from sundog.runtime.rows.table import InputTable, RowBatch

SAMPLE_BATCH = 16
MAX_BATCH_CHARACTERS = 2 * 2**20
"""Rows of more text are decoded in several batches: as Python's values they take ten times as much memory."""
ALL_ROWS = RowChoice()
MAX_SHOWN_OF_VALUE = 60
"""Characters of a value that a user is shown."""
MAX_SETS_AT_ONCE = 32
"""Each counted set of values has a table of its own in DuckDB's memory, however few the rows are."""
Numbered = list[tuple[int, tuple[Any, ...]]]


def open_rows(
    inputs: Sequence[InputSource],
    *,
    base_dir: Path,
    snapshot_dir: Path | None,
    choice: RowChoice = ALL_ROWS,
) -> RowSource:
    """Return the rows of `inputs`, the first of which drives; nothing is read yet.

    `base_dir`: relative paths begin here. `snapshot_dir`: keeps the rows of queries and calls, None for a folder that
    goes when the source does.
    """
    return RowSource(inputs, base_dir.absolute(), snapshot_dir, choice)


class RowSource:
    """Rows in the order of the driving input, numbered from 0 in the full input. All methods raise InputError."""

    def __init__(
        self,
        inputs: Sequence[InputSource],
        base_dir: Path,
        snapshot_dir: Path | None,
        choice: RowChoice,
    ) -> None:
        self._inputs = tuple(inputs)
        self._base_dir = base_dir
        self._scratch_dir = Path(tempfile.mkdtemp(prefix="sundog-"))
        self._snapshot_dir = snapshot_dir or self._scratch_dir
        self._choice = choice
        self.close = weakref.finalize(self, shutil.rmtree, self._scratch_dir, ignore_errors=True)

    @property
    def has_snapshots(self) -> bool:
        """True where rows of a query or a function are kept."""
        return any(source.path is None for source in self._inputs)

    @cached_property
    def shape(self) -> Shape:
        """The shape of one row, from headers and first rows; Anything where a query or a call has no rows."""
        shape = self._driver.shape()
        if not isinstance(shape, Record):
            return shape
        columns = dict(shape.fields)
        for joined in self._joins:
            columns[joined.table.files.name] = joined.table.shape()
        return Record(tuple(columns.items()))

    def count(self) -> int:
        """Return how many rows `batches` gives. All rows of csv and jsonl files are read and checked for this."""
        num_rows = self._num_candidates
        return num_rows if self._choice.sample is None else min(num_rows, self._choice.sample)

    def notes(self) -> tuple[tuple[str, str], ...]:
        """Return (input, what changes in its values when they are read), a sentence each."""
        with explained(self._explain):
            tables = [self._driver, *(joined.table for joined in self._joins)]
            return tuple((table.files.name, note) for table in tables for note in table.notes())

    def content_identity(self) -> Any:
        """Return a JSON value, equal for equal rows; see `identity_of` for queries and calls."""
        return {"inputs": identity_of(self._inputs, self._base_dir), **self._choice.identity()}

    def batches(
        self, start_row: int = 0, batch_size: int = 1024, order: Sequence[ValuePath] = ()
    ) -> Iterator[RowBatch]:
        """Yield (row index, row in JSON types), by number, from the row numbered `start_row` on. With `order`, rows
        that are equal in its first value stand side by side, among them those equal in the next, and then by number;
        DuckDB keeps and sorts them, in bounded memory and then in the scratch folder."""
        with explained(self._explain):
            num_candidates = self._num_candidates
            chosen = self._choice.chosen(num_candidates)
            is_related = bool(self._joins or order)
            decode = Splitter(self._driver, self._joins).decode if is_related else self._driver.scan().decode
            for rows in self._read(start_row, batch_size, order):
                numbered = [
                    (index, row)
                    for index, row in rows
                    if start_row <= index < num_candidates and (chosen is None or index in chosen)
                ]
                for some in _pieces(numbered):
                    decoded = decode([row for _, row in some])
                    yield [(index, row) for (index, _), row in zip(some, decoded, strict=True)]

    def statistics(self, sets: Collection[RowFields], first: int | None = None) -> RowStatistics:
        """Return the statistics of the values in `sets`: over all rows, counted within some per cent, or exactly over
        the `first` ones. Reads all rows once, the first ones once for each 32 sets, and knows no sample."""
        columns = [sorted(one) for one in sets]
        values = sorted({path for one in sets for path in one})
        with explained(self._explain):
            num_read = self._num_candidates if first is None else min(first, self._num_candidates)
            relation = Relation(self._driver, self._joins, values)
            is_exact = first is not None
            size = MAX_SETS_AT_ONCE if is_exact else max(1, len(columns))
            lengths: list[Any] = []
            distinct: list[int] = []
            for begin in range(0, max(1, len(columns)), size):
                some = columns[begin : begin + size]
                measured = () if begin else values
                ((found,),) = stream(self._connection, relation.statistics(some, measured, num_read, is_exact=is_exact))
                distinct += found[: len(some)]
                lengths += found[len(some) :]
        return RowStatistics(
            num_read,
            {frozenset(one): float(count) for one, count in zip(columns, distinct, strict=True)},
            {path: float(length or 0.0) for path, length in zip(values, lengths, strict=True)},
        )

    def group_sizes(
        self, value: ValuePath, least: int, num_characters: int = MAX_SHOWN_OF_VALUE
    ) -> Iterator[tuple[int, str | None]]:
        """Yield, for each different value at a path of the row, how many rows have it; where these are more than
        `least`, with the beginning of its text, None for null. They come in the order in which `batches` reads them.
        Reads all rows once."""
        with explained(self._explain):
            chosen = self._choice.chosen(self._num_candidates)
            numbers = None if chosen is None else sorted(chosen)
            relation = Relation(self._driver, self._joins, [value])
            sql = relation.group_sizes(self._num_candidates, least, numbers, num_characters)
            for groups in stream(self._connection, sql):
                yield from ((size, shown) for size, shown in groups)

    def sampled(self, max_rows: int, max_characters: int | None = None) -> list[tuple[int, InputRow]]:
        """Return at most `max_rows` of the rows of `batches`, chosen at random but always the same ones, in order. What
        is not chosen is not decoded; bad rows are left out. Where they have more than `max_characters`, so many of them
        stay, evenly picked, as have no more, and one at least; of the others few are in memory at once."""
        found = ((number, row) for number, row in self._sampled(max_rows) if not isinstance(row, BadRow))
        return list(found) if max_characters is None else evenly_picked(found, max_characters)

    def _sampled(self, max_rows: int) -> Iterator[tuple[int, InputRow | BadRow]]:
        num_candidates = self._num_candidates
        picked = self._choice.chosen(num_candidates)
        among = range(num_candidates) if picked is None else sorted(picked)
        if len(among) <= max_rows:
            for batch in self.batches(batch_size=SAMPLE_BATCH):
                yield from batch
            return
        chosen = sorted(random.Random(self._choice.seed).sample(among, max_rows))
        with explained(self._explain):
            sql, splitter = Relation(self._driver, self._joins).chosen(chosen), Splitter(self._driver, self._joins)
            for rows in stream(self._connection, sql, SAMPLE_BATCH):
                yield from ((row[0], decoded) for row, decoded in zip(rows, splitter.decode(rows), strict=True))

    @cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        return connect_duckdb(self._scratch_dir)

    @cached_property
    def _driver(self) -> InputTable:
        if not self._inputs:
            raise InputError("the flow has no inputs", hint="name one: inputs: {rows: {path: rows.csv}}")
        return self._open(self._inputs[0])

    @cached_property
    def _joins(self) -> list[Joined]:
        return [self._open_joined(source) for source in self._inputs[1:]]

    @cached_property
    def _num_candidates(self) -> int:
        """Rows from which the sample is taken; the joins are checked on the way."""
        num_rows = self._driver.count()
        with explained(self._explain):
            for joined in self._joins:
                check_join(self._connection, self._driver, joined)
        return self._choice.num_candidates(num_rows)

    def _open(self, source: InputSource) -> InputTable:
        return open_table(source, self._connection, self._base_dir, self._snapshot_dir, self._scratch_dir)

    def _open_joined(self, source: InputSource) -> Joined:
        if source.key is None:
            raise InputError(
                f"input '{source.name}' has no `key` to join it by",
                where=source.location,
                hint=f"key: {{<its column>: <column of {self._inputs[0].name}>}}",
            )
        driving_shape = self._driver.shape()
        if isinstance(driving_shape, Record) and source.name in dict(driving_shape.fields):
            raise InputError(
                f"input '{source.name}' has the name of a column of '{self._driver.files.name}'",
                where=source.location,
                hint="rename the input: its row would hide that column",
            )
        return Joined(self._open(source), *source.key, source.location)

    def _read(self, start_row: int, size: int, order: Sequence[ValuePath]) -> Iterator[Numbered]:
        if order:
            return self._read_grouped(start_row, size, order)
        return self._read_related(start_row, size) if self._joins else self._read_plain(size)

    def _read_related(self, start_row: int, size: int) -> Iterator[Numbered]:
        sql = Relation(self._driver, self._joins).rows(start_row, self._num_candidates)
        for rows in stream(self._connection, sql, size):
            yield [(row[0], row) for row in rows]

    def _read_grouped(self, start_row: int, size: int, order: Sequence[ValuePath]) -> Iterator[Numbered]:
        relation = Relation(self._driver, self._joins, order)
        with scratch_table(self._connection) as table:
            make, sql = relation.grouped_rows(start_row, self._num_candidates, table)
            self._connection.execute(make)
            for rows in stream(self._connection, sql, size):
                yield [(row[0], row) for row in rows]

    def _read_plain(self, size: int) -> Iterator[Numbered]:
        first = 0
        for rows in stream(self._connection, self._driver.scan().select, size):
            if first >= self._num_candidates:
                return
            yield list(enumerate(rows, start=first))
            first += len(rows)

    def _explain(self, error: duckdb.Error) -> SundogError:
        """All tables were checked before, but parquet pages, and files may have changed since."""
        tables = [self._driver, *(joined.table for joined in self._joins)]
        named = [table for table in tables if any(str(path) in str(error) for path in table.files.paths)]
        if named or len(tables) == 1:
            return (named or tables)[0].explain(error)
        return unreadable(", ".join(table.files.name for table in tables), str(self._base_dir), error)


def _pieces(rows: Sequence[tuple[int, tuple[Any, ...]]]) -> Iterator[Sequence[tuple[int, tuple[Any, ...]]]]:
    """Yield `rows` in pieces of at most MAX_BATCH_CHARACTERS of text, and of one row at least."""
    begin = num_characters = 0
    for place, (_, row) in enumerate(rows):
        length = sum(len(value) for value in row if isinstance(value, str))
        if place > begin and num_characters + length > MAX_BATCH_CHARACTERS:
            yield rows[begin:place]
            begin, num_characters = place, 0
        num_characters += length
    if rows:
        yield rows[begin:]
