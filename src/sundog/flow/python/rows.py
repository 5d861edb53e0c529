"""Rows given directly in Python, as an input that a plan can name.

Owns their turning into a function of this process, named for its content. Never reads files.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol

from sundog.errors import FlowError
from sundog.functions import register_function
from sundog.ir.values.canonical import canonical_json
from sundog.ir.values.normal_form import NoNormalForm, normal_form

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
    """Return a reference to a function that yields `rows` as dicts; equal rows give an equal reference."""
    if hasattr(rows, "__arrow_c_stream__"):
        table = _table(rows)
        return register_function(lambda: _dicts(table), name=name, content=_content_of(table))
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise FlowError(
            f"rows are a list of dicts or a table (pyarrow, pandas, polars), and this is a {_kind_of(rows)}",
            hint="as in [{'id': 1}]; call collect() on a lazy frame, list() on a generator, dict() on each row",
        )
    for number, row in enumerate(rows):
        for key in row:
            if not isinstance(key, str):
                what = f"row {number} has the key {key!r}, which is no text but of type {type(key).__name__}"
                raise FlowError(what, hint="the keys of a row are the names of its columns")
    kept = [_kept(row) for row in rows]
    content = canonical_json([known for _, known in kept])
    return register_function(lambda: (row for row, _ in kept), name=name, content=content)


def _kept(row: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Return the row as it will be read, and what it is known by: its normal form, or why it has none. Reading counts
    what becomes null, and fails a row without one alone."""
    num_nulled = 0

    def count() -> None:
        nonlocal num_nulled
        num_nulled += 1

    try:
        formed = normal_form(dict(row), on_not_finite=count)
    except NoNormalForm as error:
        return dict(row), str(error)
    return (dict(row) if num_nulled else formed), formed


def _kind_of(rows: Any) -> str:
    if not isinstance(rows, Sequence) or isinstance(rows, str | bytes):
        return type(rows).__name__
    odd = next(row for row in rows if not isinstance(row, Mapping))
    return f"{type(rows).__name__} that holds a {type(odd).__name__}"


def _table(rows: ArrowRows) -> pa.Table:
    """Return the table, every column of which can be read as what it is; FlowError."""
    import pyarrow as pa

    try:
        table = pa.table(rows)
    except (pa.ArrowException, ValueError, TypeError) as error:  # columns of mixed types, two of one name, one column
        reason = "; ".join(str(one).partition("\n")[0] for one in error.args)
        hint = "give the rows as dicts: to_dict('records') of a pandas frame, to_dicts() of a polars frame"
        raise FlowError(f"these rows cannot be read as an Arrow table: {reason}", hint=hint) from error
    repeated = [name for name, times in Counter(table.column_names).items() if times > 1]
    if repeated:
        raise FlowError(f"two columns of the rows are called '{repeated[0]}'", hint="rename one of them")
    # Arrow keeps what stands for such values (the addresses of objects, numbers of months), not what they are.
    odd = {name: str(kind) for name, kind in getattr(rows, "schema", {}).items()} if _is_polars(rows) else {}
    unread = [name for name, kind in odd.items() if kind == "Object"]
    unread += [column.name for column in table.schema if _is_of_other_library(column.type)]
    if unread:
        raise FlowError(
            f"column '{unread[0]}' of the rows has a type that JSON has nothing for",
            hint="make it text or numbers first, as with astype(str)",
        )
    return table


def _is_polars(rows: object) -> bool:
    return type(rows).__module__.partition(".")[0] == "polars"


def _is_of_other_library(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return isinstance(kind, pa.BaseExtensionType) and not kind.extension_name.startswith("arrow.")


def _dicts(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the rows; a value that Python has no type for (a date beyond the year 9999) fails its row when it is
    read."""
    for batch in table.to_batches(max_chunksize=1024):
        try:
            rows = batch.to_pylist(maps_as_pydicts="strict")
        except (ValueError, OverflowError, KeyError):
            rows = [
                {name: _value(batch.column(name)[number]) for name in batch.schema.names}
                for number in range(batch.num_rows)
            ]
        yield from rows


def _value(scalar: pa.Scalar[Any]) -> Any:
    try:
        return scalar.as_py(maps_as_pydicts="strict")
    except (ValueError, OverflowError, KeyError) as error:
        return _unread(error)


def _unread(error: Exception) -> Iterator[Any]:
    """Yield what raises `error` when it is read, as a row of its own does."""
    raise error
    yield


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
