"""Changes of the store as bytes: a frame for each commit.

Owns the form of a frame: for each statement its name and its rows as Arrow columns, all of it packed with zstd.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import pyarrow as pa

from sundog.errors import StoreError
from sundog.store.statements import Change, find_statement

_SIZES = struct.Struct("<II")
"""The number of bytes of a frame as it lies there, and unpacked."""
_CODEC = pa.Codec("zstd")


def pack_frame(changes: Sequence[Change]) -> bytes:
    """Return the changes of one commit as bytes, in their order."""
    parts = bytearray()
    for statement, rows in changes:
        if not rows:
            continue
        columns = [pa.array(values) for values in zip(*rows, strict=True)]
        batch = pa.record_batch(columns, [str(number) for number in range(len(columns))])
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        name, body = statement.name.encode(), sink.getvalue()
        parts += _SIZES.pack(len(name), body.size) + name
        parts += memoryview(body)
    packed = _CODEC.compress(bytes(parts), asbytes=True)
    return _SIZES.pack(len(packed), len(parts)) + packed


def unpack_frames(body: memoryview) -> Iterator[Change]:
    """Yield the changes of frames that lie one behind the other. StoreError for a statement that this sundog does not
    know, ValueError for bytes that are no frames."""
    begin = 0
    while begin < len(body):
        packed_size, size = _sizes(body, begin)
        begin += _SIZES.size
        yield from _changes(memoryview(_CODEC.decompress(body[begin : begin + packed_size], size)))
        begin += packed_size


def _changes(parts: memoryview) -> Iterator[Change]:
    begin = 0
    while begin < len(parts):
        name_size, size = _sizes(parts, begin)
        begin += _SIZES.size
        name = bytes(parts[begin : begin + name_size]).decode()
        begin += name_size
        statement = find_statement(name)
        if statement is None:
            raise StoreError(
                f"the log holds a change '{name}', which this sundog does not know",
                hint="use the sundog version that wrote it, or a newer one",
            )
        with pa.ipc.open_stream(pa.py_buffer(parts[begin : begin + size])) as stream:
            batch = stream.read_next_batch()
        begin += size
        yield statement, list(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def _sizes(body: memoryview, begin: int) -> tuple[int, int]:
    if len(body) < begin + _SIZES.size:
        raise ValueError("the bytes end within a frame")
    first, second = _SIZES.unpack_from(body, begin)
    return int(first), int(second)
