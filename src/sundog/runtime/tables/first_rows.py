"""The first rows of a table, where no more of them are wanted: by columns as queries compare them, and then in their
order.

Owns which rows these are. They follow from the rows alone, so that a run that was killed finds the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from sundog.ir.physical import TableExec
from sundog.ir.values.normal_form import encode
from sundog.runtime.rows.inputs import RowSource
from sundog.runtime.rows.table import BadRow
from sundog.runtime.tables.relations import Relations


def first_rows(table: TableExec, rows: RowSource, relations: Relations) -> frozenset[int] | None:
    """Return the numbers of those of `rows` that the table takes, None for all. A row that lacks a column by which rows
    are ordered is taken beside them: it fails, and a query that needs all rows must hear of it."""
    take = table.table.take
    if take is None:
        return None
    if not take.order_by:
        numbers = (number for batch in rows.batches() for number, _ in batch)
        return frozenset(islice(numbers, take.num_rows))
    types = {column.name: column.type for column in table.columns}
    untouched = {column: types[name] for name, column in table.table.untouched.items() if name in types}
    keys = [(untouched[column], is_descending) for column, is_descending in take.order_by]
    columns, lacking = [column for column, _ in take.order_by], set[int]()

    def lines() -> Iterator[bytes]:
        for batch in rows.batches():
            for number, row in batch:
                if isinstance(row, BadRow) or any(column not in row for column in columns):
                    lacking.add(number)
                else:
                    yield encode({"n": number, **{f"k{at}": row[column] for at, column in enumerate(columns)}})

    return frozenset(relations.first_numbers(keys, lines(), take.num_rows)) | lacking
