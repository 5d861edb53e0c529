"""The rows of a table that are wanted, where not all are: the first ones, or those for which conditions hold.

Owns which rows these are. They follow from the rows alone, compared as the reader's query would compare them, so that a
run that was killed finds the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from sundog.execution.input_row import BadRow, IdentifiedRows, InputRow
from sundog.ir.logical import Table
from sundog.ir.physical import TypedColumn
from sundog.ir.sql_types import SQLType
from sundog.ir.tables import FirstRows, MatchingRows
from sundog.ir.values.normal_form import encode
from sundog.runtime.rows.inputs import RowSource
from sundog.runtime.tables.relations import Relations

GivenRows = Iterable[tuple[int, InputRow | BadRow]]


def wanted_rows(
    table: Table, columns: Sequence[TypedColumn], rows: RowSource, relations: Relations
) -> frozenset[int] | None:
    """Return the numbers of those of `rows` that the table takes, None for all. `columns`: those of the table. A row
    that lacks a column which decides is taken beside them: it fails, and a query that needs all rows must hear of
    it."""
    untouched = _types_of_row(table, columns)
    match table.take:
        case None:
            return None
        case FirstRows(num_rows=num_rows, order_by=()):
            return frozenset(islice((number for batch in rows.batches() for number, _ in batch), num_rows))
        case FirstRows() as take:
            return _first(take, untouched, rows, relations)
        case MatchingRows() as take:
            numbered = (row for batch in rows.batches() for row in batch)
            return _matching(take, untouched, numbered, relations)


def wanted_of(
    table: Table, columns: Sequence[TypedColumn], rows: IdentifiedRows, relations: Relations
) -> IdentifiedRows:
    """Return those of some rows, which flow, that the table takes, as `wanted_rows` does."""
    if not isinstance(table.take, MatchingRows):
        return rows
    numbered = ((number, row) for number, (_, row) in enumerate(rows))
    found = _matching(table.take, _types_of_row(table, columns), numbered, relations)
    return rows if found is None else [row for number, row in enumerate(rows) if number in found]


def _types_of_row(table: Table, columns: Sequence[TypedColumn]) -> Mapping[str, SQLType]:
    """Return the types of those columns of the row that are columns of the table."""
    types = {column.name: column.type for column in columns}
    return {column: types[name] for name, column in table.untouched.items() if name in types}


def _first(take: FirstRows, types: Mapping[str, SQLType], rows: RowSource, relations: Relations) -> frozenset[int]:
    lacking = set[int]()
    names = {f"k{at}": column for at, (column, _) in enumerate(take.order_by)}
    keys = [(types[column], is_descending) for column, is_descending in take.order_by]
    found = relations.first_numbers(
        keys, _lines((row for batch in rows.batches() for row in batch), "n", names, lacking), take.num_rows
    )
    return frozenset(found) | lacking


def _matching(
    take: MatchingRows, types: Mapping[str, SQLType], rows: GivenRows, relations: Relations
) -> frozenset[int] | None:
    lacking = set[int]()
    columns = tuple((name, types[column]) for name, column in take.columns)
    lines = _lines(rows, "__n", dict(take.columns), lacking)
    found = relations.matching_numbers(take.alias, columns, lines, take.conditions)
    # The reader's query asks the conditions again, of all rows then, and tells what is wrong.
    return None if found is None else frozenset(found) | lacking


def _lines(rows: GivenRows, number_as: str, names: Mapping[str, str], lacking: set[int]) -> Iterator[bytes]:
    """Yield the number and some columns of each row, as JSON. `names`: by name there, the column of the row."""
    for number, row in rows:
        if isinstance(row, BadRow) or any(column not in row for column in names.values()):
            lacking.add(number)
        else:
            yield encode({number_as: number, **{name: row[column] for name, column in names.items()}})
