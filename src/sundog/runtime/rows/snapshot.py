"""Rows that a query or a function makes, written once so that a resumed run reads the very same ones.

Owns the snapshot files: `<input>.jsonl` with the last rows, `<input>.<number>.jsonl` with those before where they are
many, and `<input>.notes.json` where values changed on the way. Never reads the rows back; json_table does.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import chdir, closing
from pathlib import Path
from typing import Any

import duckdb
from duckdb import StatementType
from pydantic_core import from_json, to_json

from sundog.errors import InputError
from sundog.ir.logical import InputSource
from sundog.ir.values.normal_form import NoNormalForm, normal_form
from sundog.operators.edited_modules import resolve_as_written
from sundog.private_files import FILE_MODE, make_private_folder, open_private
from sundog.runtime.rows.failures import explained, first_sentence
from sundog.runtime.rows.formats.json_line import bad_line
from sundog.runtime.rows.paths import InputFiles
from sundog.runtime.rows.values.decoding import note_nulled
from sundog.runtime.rows.values.query_rows import json_lines
from sundog.runtime.rows.whole_file import whole_file

MAX_PIECE_BYTES = 4 * 2**20
"""A file of a snapshot ends here. DuckDB works on 2,048 rows at once, however long they are, but never on those of two
files: reading 48 MB of rows of 20 kB each takes 40 MB in such files, and 170 MB in a single one."""

# DuckDB looks for relative names in the working folder before any other, so a query runs in the flow's folder.
_WORKING_FOLDER = threading.Lock()


def take_snapshot(
    source: InputSource, connection: duckdb.DuckDBPyConnection, base_dir: Path, snapshot_dir: Path
) -> InputFiles:
    """Return the rows of `source` in `snapshot_dir`; an existing snapshot is used as it is."""
    path = snapshot_dir.absolute() / f"{source.name}.jsonl"
    if not path.exists():
        if source.query is not None:
            query = source.query
            with _WORKING_FOLDER, chdir(base_dir):
                write_snapshot(path, lambda nulled: _query_lines(source, query, connection, nulled))
        else:
            write_snapshot(path, lambda nulled: _call_lines(source, base_dir, nulled))
    paths = (*_pieces_before(path), path)
    return InputFiles(source.name, paths, "jsonl", path.parent, notes=notes_beside(path))


def copy_snapshot(name: str, from_dir: Path, to_dir: Path) -> None:
    """Take over the snapshot of an input from another folder, where that has one and this one has none."""
    path, copied = from_dir / f"{name}.jsonl", to_dir.absolute() / f"{name}.jsonl"
    if copied.exists() or not path.exists():
        return
    make_private_folder(copied.parent)
    # The notes come first: whoever finds the rows finds them too.
    for one, other in ((_notes_path(path), _notes_path(copied)), (path, copied)):
        if one.exists():
            with one.open("rb") as rows, whole_file(other, FILE_MODE) as file:
                shutil.copyfileobj(rows, file)


def notes_beside(path: Path) -> tuple[str, ...]:
    """Return what changed in the values of a snapshot when it was written, a sentence each."""
    notes_path = _notes_path(path)
    return tuple(from_json(notes_path.read_bytes())) if notes_path.exists() else ()


def write_snapshot(path: Path, lines: Callable[[Counter[str]], Iterable[bytes]]) -> None:
    """Write a snapshot, whole or not at all. `lines` counts by column the values that become null for being NaN or
    infinite; what it raises passes through."""
    make_private_folder(path.parent)
    nulled = Counter[str]()
    with whole_file(path, FILE_MODE) as file:
        for left in _pieces_before(path):
            left.unlink()
        piece, num_pieces = bytearray(), 0
        for line in lines(nulled):
            if len(piece) >= MAX_PIECE_BYTES:
                num_pieces += 1
                with whole_file(path.with_suffix(f".{num_pieces}.jsonl"), FILE_MODE) as before:
                    before.write(piece)
                piece.clear()
            piece += line
        file.write(piece)
        notes = [note_nulled(column, count) for column, count in nulled.items() if count]
        if notes:
            os.close(open_private(_notes_path(path), os.O_WRONLY))
            _notes_path(path).write_bytes(to_json(notes))


def _pieces_before(path: Path) -> list[Path]:
    """Return the files with the rows before those of `path`, in their order. They are whole where `path` is there."""
    found = path.parent.glob(f"{path.stem}.*.jsonl")
    return sorted(found, key=lambda piece: int(piece.suffixes[0][1:]))


def _notes_path(path: Path) -> Path:
    return path.with_suffix(".notes.json")


def _query_lines(
    source: InputSource, sql: str, connection: duckdb.DuckDBPyConnection, nulled: Counter[str]
) -> Iterator[bytes]:
    with closing(connection.cursor()) as cursor, explained(lambda error: _query_error(source, error)):
        statements = cursor.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != StatementType.SELECT:
            raise InputError(
                f"the query of input '{source.name}' is not one SELECT",
                where=source.location,
                hint="write one statement that begins with SELECT, WITH or FROM",
            )
        query = statements[0].query.strip().rstrip(";")
        cursor.execute(f"EXPLAIN {query}")  # a relation's errors name no line
        relation = cursor.sql(query)
        repeated = [name for name, times in Counter(relation.columns).items() if times > 1]
        if repeated:
            raise InputError(
                f"the query of input '{source.name}' gives the column '{repeated[0]}' twice",
                where=source.location,
                hint="name one of them otherwise: ... AS another_name",
            )
        yield from json_lines(cursor, query, dict(zip(relation.columns, relation.types, strict=True)), nulled)


def _call_lines(source: InputSource, base_dir: Path, nulled: Counter[str]) -> Iterator[bytes]:
    for number, row in enumerate(_call_rows(source, base_dir), start=1):
        yield _line(source, number, row, nulled) + b"\n"


def _call_rows(source: InputSource, base_dir: Path) -> Iterator[object]:
    assert source.call is not None
    function = resolve_as_written(source.call, base_dir)
    number = 0
    try:
        rows: Iterable[Any] = function(**source.args)
        for row in rows:
            yield row
            number += 1
    except Exception as error:
        raise InputError(
            f"the function '{source.call}' of input '{source.name}' failed after {number} rows: "
            f"{type(error).__name__}: {error}",
            where=source.location,
            hint="it is called with `args` and returns an iterable of dicts",
        ) from error


def _line(source: InputSource, number: int, row: object, nulled: Counter[str]) -> bytes:
    if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
        raise InputError(
            f"row {number} of input '{source.name}' is not a dict with text keys but {type(row).__name__}",
            where=source.location,
            hint=f"let '{source.call}' yield one dict per row",
        )
    formed: dict[str, Any] = {}
    for name, value in row.items():

        def count(column: str = name) -> None:
            nulled[column] += 1

        try:
            formed[name] = normal_form(value, count)
        except NoNormalForm as error:
            return bad_line(f"column '{name}': {error}", row)
    return to_json(formed)


def _query_error(source: InputSource, error: duckdb.Error) -> InputError:
    found = re.search(r"^LINE (\d+):", str(error), re.MULTILINE)
    place = f" (line {found[1]} of the query)" if found else ""
    candidates = re.search(r"^Candidate bindings: (.*)$", str(error), re.MULTILINE)
    return InputError(
        f"the query of input '{source.name}' failed{place}: {first_sentence(error)}",
        where=source.location,
        hint=f"columns near that name: {candidates[1]}" if candidates else "file names count from the flow's folder",
    )
