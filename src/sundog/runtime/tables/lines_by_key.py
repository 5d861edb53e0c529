"""Lines brought together by a key: a file keeps the lines, and a table of DuckDB their places.

Owns the way from the order of a query to that of groups. DuckDB sorts numbers alone: with the texts in its sort, a few
thousand long rows need more memory than a run may take, wherever they are spilled to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import chain, groupby, islice
from typing import BinaryIO

import duckdb
import pyarrow as pa

from sundog.ir.logical import Table
from sundog.runtime.rows.duck import fetched, new_name
from sundog.runtime.tables.relations import Relations

_BATCH_LINES = 16_384
_KEY_BYTES = 16


@contextmanager
def lines_by_key(
    table: Table, lines: Iterator[bytes], key: Callable[[bytes], tuple[bytes, int | None]], relations: Relations
) -> Iterator[Iterator[Iterator[bytes]]]:
    """The groups of `lines` with equal keys, in the order of their first lines, each with its lines in their order:
    that of the numbers that `key` gives beside a key, and where it gives none that in which they come. A group is read
    before the next is asked for. RunError, as of `table`, where DuckDB has no room."""
    with relations.scratch(table) as (cursor, file):
        places = new_name("places")
        cursor.execute(f"CREATE TABLE {places} (key BLOB, number BIGINT, place BIGINT)")
        try:
            found = _written(lines, key, file)
            while some := list(islice(found, _BATCH_LINES)):
                _add(cursor, places, some)
            first = "min(number) OVER (PARTITION BY key)"
            sql = f"SELECT {first} AS first, key, number, place FROM {places} ORDER BY ALL"
            ordered = chain.from_iterable(fetched(cursor, sql))
            yield (_lines_at(file, group) for _, group in groupby(ordered, key=lambda row: row[:2]))
        finally:
            cursor.execute(f"DROP TABLE {places}")


def _add(cursor: duckdb.DuckDBPyConnection, places: str, some: Sequence[tuple[bytes, int, int]]) -> None:
    batch_name = new_name("batch")
    columns = dict(zip(("key", "number", "place"), zip(*some, strict=True), strict=True))
    cursor.register(batch_name, pa.table(columns))
    cursor.execute(f"INSERT INTO {places} SELECT key, number, place FROM {batch_name}")
    cursor.unregister(batch_name)


def _written(
    lines: Iterator[bytes], key: Callable[[bytes], tuple[bytes, int | None]], file: BinaryIO
) -> Iterator[tuple[bytes, int, int]]:
    """Write the lines and yield for each a digest of its key, its number and its place."""
    place = 0
    for line in lines:
        file.write(line)
        text, number = key(line)
        yield blake2b(text, digest_size=_KEY_BYTES).digest(), place if number is None else number, place
        place += len(line)


def _lines_at(file: BinaryIO, group: Iterator[tuple[int, bytes, int, int]]) -> Iterator[bytes]:
    for *_, place in group:
        file.seek(place)
        yield file.readline()
