"""Input files that somebody damaged: rows, bad rows or an InputError, and never anything else."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from sundog.errors import InputError, Location
from sundog.execution.input_row import BadRow
from sundog.ir.logical import InputSource
from sundog.ir.schemas.shape import Record
from sundog.runtime.rows.inputs import RowSource, open_rows
from tests.fuzz.budget import bounded, fuzz

JSONL = b"".join(
    b'{"id": %d, "text": "caf\xc3\xa9 \\ud83d\\ude00 %d", "n": 1.5e3, "more": {"a": [null, true]}}\n' % (n, n)
    for n in range(8)
)
CSV = 'id,text,n\n1,"say ""yes"",\nno",1.5\n2,café,\n3,"",-7e2\n'.encode()
TABLE = {"id": [1, 2, None], "text": ["a", "é", None], "n": [0.5, float("nan"), 1e300], "more": [{"a": [1]}, None, {}]}


def _parquet(**options: Any) -> bytes:
    stream = BytesIO()
    pq.write_table(pa.table(TABLE), stream, **options)
    return stream.getvalue()


WHOLE = {
    "a.csv": CSV,
    "a.csv.gz": gzip.compress(CSV, mtime=0),
    "a.tsv": CSV.replace(b",", b"\t"),
    "a.jsonl": JSONL,
    "a.ndjson.gz": gzip.compress(JSONL, mtime=0),
    "a.json": b"[" + b",".join(JSONL.splitlines()) + b"]",
    "a.json.gz": gzip.compress(b'[{"id": 1}, {"id": 2}]', mtime=0),
    "a.parquet": _parquet(compression="zstd"),
    "b.parquet": _parquet(compression="snappy", use_dictionary=False),
}
PIECES = [
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\\ud800",
    b'"',
    b"\\",
    b"\r",
    b"\n",
    b"{",
    b"]",
    b",",
    b"1e999",
    b"NaN",
    b"9" * 5000,
]
PIECES += [b"[" * 300, b"\xef\xbb\xbf", b"-", b".", b" ", b"'"]


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """`whole` with some bytes changed, cut out, doubled or put in."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(content)))
        end = min(len(content), begin + draw(st.integers(0, 12)))
        match draw(st.sampled_from(["flip", "cut", "double", "put", "end"])):
            case "flip" if begin < len(content):
                content[begin] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[begin:end]
            case "double":
                content[begin:begin] = content[begin:end]
            case "put":
                content[begin:begin] = draw(st.sampled_from(PIECES) | st.binary(max_size=4))
            case "end":
                del content[begin:]
    return bytes(content)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bytes], None]:
    folder = tmp_path_factory.mktemp("inputs")

    def read_all(name: str, content: bytes) -> None:
        (folder / name).write_bytes(content)
        _read_all(folder, name)

    return read_all


def _read_all(folder: Path, name: str) -> None:
    source = open_rows([InputSource("rows", path=name)], base_dir=folder, snapshot_dir=None)
    try:
        _read_rows(source)
        _read_by_value(source, folder, name)
    except InputError as error:
        _check(error)
    finally:
        source.close()


def _read_by_value(source: RowSource, folder: Path, name: str) -> None:
    """Read the rows as prompts are ordered, counted and joined."""
    if not isinstance(source.shape, Record) or "text" not in dict(source.shape.fields):
        return
    path = ("row", "text")
    assert sum(map(len, source.batches(order=[path]))) == source.count()
    assert source.statistics([frozenset({path})]).num_rows == source.count()
    other = InputSource("other", path=name, key=("text", "text"), location=Location("flow.yaml", 1, 1))
    joined = open_rows([InputSource("rows", path=name), other], base_dir=folder, snapshot_dir=None)
    try:
        assert sum(map(len, joined.batches())) == source.count()
    finally:
        joined.close()


def _read_rows(source: RowSource) -> None:
    shape, count = source.shape, source.count()
    source.notes()
    rows = [row for batch in source.batches() for _, row in batch]
    assert len(rows) == count, shape
    assert len(source.sampled(2)) <= 2
    for row in rows:
        if isinstance(row, BadRow):
            assert row.reason
        else:
            assert from_json(to_json(row), allow_inf_nan=False) == row


def _check(error: InputError) -> None:
    assert error.where
    assert error.hint


@pytest.mark.parametrize("name", WHOLE)
def test_a_damaged_file_gives_rows_or_an_input_error(name: str, read: Callable[[str, bytes], None]) -> None:
    @fuzz(0.3)
    @given(mutated(WHOLE[name]))
    def property(content: bytes) -> None:
        with bounded():
            read(name, content)

    property()
