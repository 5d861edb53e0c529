"""Rows that flow from table to table: each row of a source that has ended is put through the query of its reader.

Owns what rows a row gives and their ids, which follow from the data alone: batches depend on time, ids do not. The
store is the queue between two tables, so that nothing is held in memory and nothing is lost by a kill.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import duckdb

from sundog.execution.input_row import BadRow, IdentifiedRows
from sundog.ir.logical import Table
from sundog.ir.physical import TableExec
from sundog.ir.row_ids import RowId
from sundog.ir.tables import QueryRows
from sundog.queries.order import with_keys
from sundog.queries.parsed import parse_query
from sundog.runtime.rows.failures import first_sentence
from sundog.runtime.tables.column_types import ColumnTypes
from sundog.runtime.tables.relations import Relations, too_many_rows
from sundog.runtime.tables.wanted_rows import wanted_of
from sundog.store.store import Store

MAX_BATCH = 256
"""Rows of a source that are taken up together: the query costs a millisecond for one of them and for all."""
OF_VALUES = (duckdb.DataError, duckdb.InvalidInputException)
"""What DuckDB raises for values that a query cannot take, as in a cast."""


class RowWiseQuery:
    """The query of one table, put to rows of the table `stream` that come in batches. What else it reads has ended and
    is loaded."""

    def __init__(self, exec: TableExec, stream: str, columns: ColumnTypes, relations: Relations) -> None:
        """`columns`: of `stream`."""
        table = exec.table
        assert isinstance(table.source, QueryRows)
        self._table = table
        self._own_columns = exec.columns
        self._stream = stream
        self._columns = columns
        self._relations = relations
        self._query = parse_query(table.source.sql)
        self._keyed = with_keys(self._query)
        #: By column, the values that became null for being NaN or infinite.
        self.nulled = Counter[str]()

    def rows_of(self, rows: Sequence[tuple[RowId, bytes]]) -> IdentifiedRows:
        """Return the rows that `rows`, ids and bodies as JSON, give and the table takes, with their ids. Where the
        query fails for one of them, it gives a bad row in its place."""
        try:
            return wanted_of(self._table, self._own_columns, self._expanded(rows), self._relations)
        except duckdb.Error as error:
            if len(rows) == 1:
                return [
                    ((*rows[0][0], 0), BadRow(f"the query of the table '{self._table.name}': {first_sentence(error)}"))
                ]
        half = len(rows) // 2
        return [*self.rows_of(rows[:half]), *self.rows_of(rows[half:])]

    def _expanded(self, rows: Sequence[tuple[RowId, bytes]]) -> IdentifiedRows:
        found = self._relations.keyed_rows(
            self._query, self._keyed, self._stream, self._columns, [body for _, body in rows], self.nulled
        )
        counted = Counter[RowId]()
        identified: IdentifiedRows = []
        for keys, row in found:
            branch, number = (keys[0], keys[1]) if self._keyed.has_branches else (None, keys[0])
            parent = rows[number][0]
            made_of = parent if branch is None else (branch, *parent)
            identified.append(((*made_of, counted[made_of]), row))
            counted[made_of] += 1
        return identified


class Pump:
    """The rows of a table that flow out of another. `changed` is set whenever a row of that has been committed, and
    when no row of it will be any more, which `has_ended` says."""

    def __init__(
        self,
        query: RowWiseQuery,
        store: Store,
        run_id: str,
        table: Table,
        stream: str,
        changed: asyncio.Event,
        has_ended: Callable[[], bool],
    ) -> None:
        self._query = query
        self._store = store
        self._run_id = run_id
        self._table = table
        self._stream = stream
        self._changed = changed
        self._has_ended = has_ended
        #: How many rows it has given so far, also those that had ended before.
        self.num_rows = 0

    async def batches(self) -> AsyncIterator[IdentifiedRows]:
        """Yield the rows until the source has ended. RunError where there are more than the table may have."""
        seq = self._store.first_seq(self._run_id)
        while True:
            self._changed.clear()
            is_last = self._has_ended()  # asked before looking, so that no row is missed
            found = self._store.done_since(self._run_id, self._stream, seq, MAX_BATCH)
            if found:
                seq = found[-1][0]
                rows = await asyncio.to_thread(self._query.rows_of, [(row_id, body) for _, row_id, body in found])
                self._count(len(rows))
                if rows:
                    yield rows
            elif is_last:
                return
            else:
                await self._changed.wait()

    def _count(self, num_rows: int) -> None:
        self.num_rows += num_rows
        if self.num_rows > self._table.max_rows:
            raise too_many_rows(self._table)
