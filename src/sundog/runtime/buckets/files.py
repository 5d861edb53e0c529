"""Rows of a bucket as one Parquet file, from which any of them can be read by their places.

Owns the form of the file: a row is written as the JSON of its normal form, so that it is read as the very same values,
whatever the columns of the input were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic_core import to_json

from sundog.execution.input_row import BadRow, IdentifiedRows, InputRow, Lacks
from sundog.ir.row_ids import RowId, decode_row_id, encode_row_id
from sundog.ir.values.normal_form import decode
from sundog.runtime.buckets.cutting import DIGEST_BYTES, GroupKey

MAX_PIECE_ROWS = 1_024
MAX_PIECE_BYTES = 4 * 2**20
"""A row group ends here: whoever reads a few rows decodes no more than the groups that they lie in."""
_ID, _KEY, _ROW, _BAD = "id", "key", "row", "bad"
# Either of the last two is there: the row, or why it is bad and what is known of it.
_COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    (_ID, pa.binary()),
    (_KEY, pa.binary(DIGEST_BYTES)),
    (_ROW, pa.large_binary()),
    (_BAD, pa.large_binary()),
)
_SCHEMA = pa.schema(_COLUMNS)


class BucketWriter:
    """Writes the rows of a bucket into a stream, with no more than a row group in memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self._file = pq.ParquetWriter(stream, _SCHEMA, compression="zstd")
        self._lines: list[tuple[bytes, GroupKey, bytes | None, bytes | None]] = []
        self._num_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        if kind is None:
            self._write()
        self._file.close()

    def add(self, row_id: RowId, row: InputRow | BadRow, key: GroupKey) -> None:
        """Write the next row; `key`: of its group."""
        if isinstance(row, BadRow):
            body, bad = None, to_json(_told(row))
        else:
            body, bad = to_json(row), None
        self._lines.append((encode_row_id(row_id), key, body, bad))
        self._num_bytes += len(body or b"") + len(bad or b"")
        if len(self._lines) == MAX_PIECE_ROWS or self._num_bytes >= MAX_PIECE_BYTES:
            self._write()

    def _write(self) -> None:
        if self._lines:
            columns = zip(*self._lines, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
            self._file.write_table(pa.Table.from_arrays(arrays, schema=_SCHEMA))
        self._lines, self._num_bytes = [], 0


class BucketFile:
    """The rows of a bucket, by their places in it from 0. `source`: its file, or what that holds."""

    def __init__(self, source: Path | bytes) -> None:
        self._file = pq.ParquetFile(pa.BufferReader(source) if isinstance(source, bytes) else source)
        self._sizes = [self._file.metadata.row_group(place).num_rows for place in range(self._file.num_row_groups)]

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def num_rows(self) -> int:
        """Return how many rows there are."""
        return sum(self._sizes)

    def rows(self, start: int = 0, stop: int | None = None) -> Iterator[IdentifiedRows]:
        """Yield the rows at the places [start, stop), or to the end, in pieces: a row group is in memory at once."""
        for columns in self._pieces([_ID, _ROW, _BAD], start, stop):
            yield [
                (decode_row_id(row_id), _bad_row(decode(bad)) if body is None else decode(body))
                for row_id, body, bad in zip(*columns, strict=True)
            ]

    def ids(self) -> Iterator[list[RowId]]:
        """Yield the ids of all rows, in pieces."""
        for (row_ids,) in self._pieces([_ID], 0, None):
            yield [decode_row_id(row_id) for row_id in row_ids]

    def group_starts(self, start: int = 0, stop: int | None = None) -> Iterator[int]:
        """Yield the places in [start, stop) at which a group begins: those where a part may begin without a second
        computation of a prefix. `start` counts as one."""
        place, before = start, None
        for (keys,) in self._pieces([_KEY], start, stop):
            for key in keys:
                if place == start or key is None or key != before:
                    yield place
                place, before = place + 1, key

    def _pieces(self, names: Sequence[str], start: int, stop: int | None) -> Iterator[list[list[Any]]]:
        """Yield the columns with these `names` of the rows [start, stop), a row group at a time."""
        begin, end = 0, self.num_rows if stop is None else stop
        for number, size in enumerate(self._sizes):
            first, last = max(start, begin), min(end, begin + size)
            if first < last:
                found = self._file.read_row_group(number, columns=list(names)).slice(first - begin, last - first)
                yield [found.column(name).to_pylist() for name in names]
            begin += size


def pack_rows(rows: IdentifiedRows, keys: Sequence[GroupKey] = ()) -> bytes:
    """Return a bucket's file. `keys`: of each row's group (`GroupKeys`); none where each row is by itself."""
    stream = BytesIO()
    with BucketWriter(stream) as writer:
        for place, (row_id, row) in enumerate(rows):
            writer.add(row_id, row, keys[place] if keys else None)
    return stream.getvalue()


def unpack_rows(data: bytes, start: int = 0, stop: int | None = None) -> IdentifiedRows:
    """Return the rows at the places [start, stop), or to the end, of what `pack_rows` gave."""
    return [one for piece in BucketFile(data).rows(start, stop) for one in piece]


def _told(row: BadRow) -> dict[str, Any]:
    """Return a bad row in JSON types."""
    lacks = None if row.lacks is None else {"table": row.lacks.table, "failed_in": list(row.lacks.failed_in)}
    return {"reason": row.reason, "known": dict(row.known), "hint": row.hint, "lacks": lacks}


def _bad_row(told: dict[str, Any]) -> BadRow:
    lacks = told["lacks"]
    found = None if lacks is None else Lacks(lacks["table"], tuple(lacks["failed_in"]))
    return BadRow(told["reason"], told["known"], told["hint"], found)
