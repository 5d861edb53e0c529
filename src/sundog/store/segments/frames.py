"""Changes of the store as bytes: a frame for each commit.

Owns the form of a frame: the name and the rows of each statement as MessagePack, packed with zstd. Most commits are
small, and Arrow columns take 0.23 ms for one of them, where this takes 0.02 ms and half of the bytes.
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
    import msgpack  # type: ignore[import-untyped]  # of the extra `cloud`; it has no types

    body: bytes = msgpack.packb([(statement.name, rows) for statement, rows in changes if rows])
    packed = _CODEC.compress(body, asbytes=True)
    return _SIZES.pack(len(packed), len(body)) + packed


def unpack_frames(body: memoryview) -> Iterator[Change]:
    """Yield the changes of frames that lie one behind the other. StoreError for a statement that this sundog does not
    know, ValueError for bytes that are no frames."""
    import msgpack

    begin = 0
    while begin < len(body):
        if len(body) < begin + _SIZES.size:
            raise ValueError("the bytes end within a frame")
        packed_size, size = _SIZES.unpack_from(body, begin)
        begin += _SIZES.size
        changes = msgpack.unpackb(_CODEC.decompress(body[begin : begin + packed_size], size), use_list=False)
        begin += packed_size
        for name, rows in changes:
            statement = find_statement(name)
            if statement is None:
                raise StoreError(
                    f"the log holds a change '{name}', which this sundog does not know",
                    hint="use the sundog version that wrote it, or a newer one",
                )
            yield statement, rows
