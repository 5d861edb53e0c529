"""Rows into JSON files: an array, or a line for each row.

Owns both forms. Same rows, same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

from pydantic_core import to_json

if TYPE_CHECKING:
    from sundog.runtime.rows.formats.stored_rows import SizedRow


def write_json(stream: BinaryIO, columns: Sequence[str], rows: Iterator[SizedRow]) -> None:
    """Write an array with a row on each line."""
    before = b"[\n"
    for row, _ in rows:
        stream.write(before + to_json({name: row[name] for name in columns}))
        before = b",\n"
    stream.write(b"[]\n" if before == b"[\n" else b"\n]\n")


def write_jsonl(stream: BinaryIO, columns: Sequence[str], rows: Iterator[SizedRow]) -> None:
    """Write a row on each line."""
    for row, _ in rows:
        stream.write(to_json({name: row[name] for name in columns}) + b"\n")
