"""The files a run leaves: its rows, and its failures beside them.

Owns formats and names of the output. A file appears whole or not at all, and the same rows give the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic_core import from_json, to_json

from sundog.errors import ConfigError, suggest
from sundog.runtime.io.whole_file import whole_file

SizedRow = tuple[dict[str, Any], int]
"""A row and the bytes of its JSON."""
StoredRows = Callable[[], Iterator[tuple[int, bytes]]]
"""Each call gives the rows anew: (row index, JSON of a dict), in row order."""

Format = Literal["csv", "jsonl", "parquet"]
SUFFIXES: dict[str, Format] = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}


def check_output_path(path: Path) -> None:
    """Say now what would go wrong at the end; ConfigError."""
    _format_of(path)
    folder = path.absolute().parent
    if path.is_dir():
        raise ConfigError(f"the output {path} is a folder", hint=f"name a file in it: {path / 'rows.parquet'}")
    if not folder.is_dir():
        raise ConfigError(f"the folder of the output is not there: {folder}", hint=f"mkdir -p {folder}")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"cannot write into {folder}", hint="name an output elsewhere, or change its permissions")


def write_output(path: Path, columns: Sequence[str], rows: StoredRows) -> tuple[str, ...]:
    """Write `columns` of all rows to `path`, as its suffix says; returns warnings, one sentence each.

    csv: null is an empty field, empty text is "", lists and records are JSON text. jsonl: one object per line.
    parquet: types from the values (column_type). RunError when it cannot be written; the old file then stays.
    """
    format, replaced = _format_of(path), _Replaced()
    with whole_file(path) as stream:
        match format:
            case "csv":
                warnings = _write_csv(stream, columns, replaced.parsed(rows()))
            case "jsonl":
                warnings = _write_jsonl(stream, columns, replaced.parsed(rows()))
            case "parquet":
                from sundog.runtime.io.parquet_file import write_parquet

                warnings = write_parquet(stream, columns, lambda: replaced.parsed(rows()))
    return warnings + replaced.warnings()


def write_text(
    stream: BinaryIO, format: Literal["csv", "jsonl"], columns: Sequence[str], rows: Iterator[tuple[int, bytes]]
) -> tuple[str, ...]:
    """Write rows to a stream as `write_output` writes them to a file; returns the same warnings."""
    replaced = _Replaced()
    write = _write_csv if format == "csv" else _write_jsonl
    write(stream, columns, replaced.parsed(rows))
    return replaced.warnings()


def errors_path(output: Path) -> Path:
    """Where the failed rows of `output` are listed."""
    return output.with_name(f"{output.name}.errors.jsonl")


def write_errors(output: Path, failures: Iterable[Mapping[str, Any]]) -> Path | None:
    """One JSON line per failure beside `output`; without failures there is no file, an old one goes."""
    path, remaining = errors_path(output), iter(failures)
    first = next(remaining, None)
    if first is None:
        path.unlink(missing_ok=True)
        return None
    with whole_file(path) as stream:
        stream.write(to_json(first) + b"\n")
        for failure in remaining:
            stream.write(to_json(failure) + b"\n")
    return path


class _Replaced:
    """Parses stored rows. Half of a surrogate pair is no Unicode text and fits no file: it is replaced and reported."""

    def __init__(self) -> None:
        self._num_rows = 0
        self._first: int | None = None

    def parsed(self, rows: Iterator[tuple[int, bytes]]) -> Iterator[SizedRow]:
        self._num_rows, self._first = 0, None
        for row_index, body in rows:
            try:
                row = from_json(body)
            except ValueError:
                row = from_json(body.decode("utf-8", "replace"))
                self._num_rows += 1
                self._first = row_index if self._first is None else self._first
            yield row, len(body)

    def warnings(self) -> tuple[str, ...]:
        if not self._num_rows:
            return ()
        return (
            f"{self._num_rows} rows hold text that is not Unicode (the first is row {self._first}); "
            "it is written as the replacement character U+FFFD",
        )


def _format_of(path: Path) -> Format:
    format = SUFFIXES.get(path.suffix.lower())
    if format is None:
        raise ConfigError(
            f"cannot tell the format of the output '{path.name}' from its name",
            hint=suggest(path.suffix, SUFFIXES) if path.suffix else f"end it with one of: {', '.join(SUFFIXES)}",
        )
    return format


def _write_jsonl(stream: BinaryIO, columns: Sequence[str], rows: Iterator[SizedRow]) -> tuple[str, ...]:
    for row, _ in rows:
        stream.write(to_json({name: row[name] for name in columns}) + b"\n")
    return ()


def _write_csv(stream: BinaryIO, columns: Sequence[str], rows: Iterator[SizedRow]) -> tuple[str, ...]:
    stream.write((",".join(_quote(name) for name in columns) + "\n").encode())
    for row, _ in rows:
        line = ",".join([_field(row[name]) for name in columns])
        # A blank line is no record to many readers.
        stream.write((line or '""').encode() + b"\n")
    return ()


def _field(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return _quote(value)
        case bool() | int() | float():
            return to_json(value).decode()
    return _quote(to_json(value).decode())


def _quote(text: str) -> str:
    """As RFC 4180 has it; empty text is quoted, so that it is not null."""
    if text and not any(mark in text for mark in ',"\r\n'):
        return text
    return '"' + text.replace('"', '""') + '"'
