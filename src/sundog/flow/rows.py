"""Rows given directly in Python, as an input that a plan can name.

Owns their turning into a function of this process, named for its content. Never reads files.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol

from sundog.errors import FlowError
from sundog.functions import register
from sundog.ir.canonical import canonical_json
from sundog.ir.normal_form import NoNormalForm, normal_form

if TYPE_CHECKING:
    import pyarrow as pa
    from typing_extensions import Buffer


class ArrowRows(Protocol):
    """A table that other libraries can read: pyarrow, pandas, polars, duckdb."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """Return a capsule as the Arrow PyCapsule interface says."""
        ...


Rows = Sequence[Mapping[str, Any]] | ArrowRows


def register_rows(name: str, rows: Rows) -> str:
    """A reference to a function that yields `rows` as dicts; equal rows give an equal reference."""
    if hasattr(rows, "__arrow_c_stream__"):
        import pyarrow as pa

        table = pa.table(rows)
        return register(lambda: _dicts(table), name=name, content=_content_of(table))
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise FlowError("rows are a list of dicts or a table (pyarrow, pandas, polars)", hint="as in [{'id': 1}]")
    kept = [_kept(row) for row in rows]
    content = canonical_json([known for _, known in kept])
    return register(lambda: (row for row, _ in kept), name=name, content=content)


def _kept(row: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """The row as it will be read, and what it is known by: its normal form, or why it has none. Reading counts what
    becomes null, and fails a row without one alone."""
    num_nulled = 0

    def count() -> None:
        nonlocal num_nulled
        num_nulled += 1

    try:
        formed = normal_form(dict(row), on_not_finite=count)
    except NoNormalForm as error:
        return dict(row), str(error)
    return (dict(row) if num_nulled else formed), formed


def _dicts(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


class _Hash(io.RawIOBase):
    """A file that keeps only the hash of what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self._hash = blake2b(digest_size=16)

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        self._hash.update(data)
        return memoryview(data).nbytes

    def digest(self) -> bytes:
        return self._hash.digest()


def _content_of(table: pa.Table) -> bytes:
    import pyarrow as pa

    sink = _Hash()
    with pa.PythonFile(sink, mode="w") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=65536)
    return sink.digest()
