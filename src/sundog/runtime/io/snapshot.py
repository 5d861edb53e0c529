"""Rows that a query or a function makes, written once so that a resumed run reads the very same ones.

Owns the snapshot files, one `<input>.jsonl` each. Never reads the rows back; json_table does.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir, closing
from pathlib import Path
from typing import Any

import duckdb
from duckdb import StatementType
from pydantic_core import to_json

from sundog.errors import InputError
from sundog.functions import resolve
from sundog.ir.logical import InputSource
from sundog.runtime.io.duck import stream
from sundog.runtime.io.failures import explained, first_sentence
from sundog.runtime.io.paths import InputFiles
from sundog.runtime.io.values import column_of, decoder, select_list
from sundog.runtime.io.whole_file import whole_file

# DuckDB looks for relative names in the working folder before any other, so a query runs in the flow's folder.
_WORKING_FOLDER = threading.Lock()


def take_snapshot(
    source: InputSource, connection: duckdb.DuckDBPyConnection, base_dir: Path, snapshot_dir: Path
) -> InputFiles:
    """The rows of `source` in `snapshot_dir`; an existing snapshot is used as it is."""
    path = snapshot_dir.absolute() / f"{source.name}.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        if source.query is not None:
            with _WORKING_FOLDER, chdir(base_dir):
                _write(source, path, _query_rows(source, source.query, connection))
        else:
            _write(source, path, _call_rows(source, base_dir))
    return InputFiles(source.name, (path,), "jsonl", path.parent)


def _write(source: InputSource, path: Path, rows: Iterator[object]) -> None:
    with whole_file(path) as file:
        for number, row in enumerate(rows, start=1):
            file.write(_to_json(source, number, row) + b"\n")


def _query_rows(source: InputSource, sql: str, connection: duckdb.DuckDBPyConnection) -> Iterator[Mapping[str, Any]]:
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
        names, types = relation.columns, relation.types
        columns = [
            column_of(name, type, f"r{index}") for index, (name, type) in enumerate(zip(names, types, strict=True))
        ]
        renamed = ", ".join(f"r{index}" for index in range(len(columns)))
        decode = decoder(columns)
        for rows in stream(cursor, f"SELECT {select_list(columns)} FROM ({query}\n) AS t({renamed})"):
            yield from decode(rows)


def _call_rows(source: InputSource, base_dir: Path) -> Iterator[object]:
    assert source.call is not None
    function = resolve(source.call, base_dir=str(base_dir))
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


def _to_json(source: InputSource, number: int, row: object) -> bytes:
    if not isinstance(row, Mapping) or not all(isinstance(name, str) for name in row):
        raise InputError(
            f"row {number} of input '{source.name}' is not a dict with text keys but {type(row).__name__}",
            where=source.location,
            hint=f"let '{source.call}' yield one dict per row",
        )
    try:
        return _encode(dict(row))
    except ValueError as error:
        column = next((name for name in row if not _can_encode(name) or not _can_encode(row[name])), "?")
        raise InputError(
            f"row {number} of input '{source.name}': the value in column '{column}' has no JSON form ({error})",
            where=source.location,
            hint="make it text, a number, a truth value, null, a list or a dict",
        ) from error


def _encode(value: Any) -> bytes:
    return to_json(value, inf_nan_mode="null", bytes_mode="base64")


def _can_encode(value: Any) -> bool:
    try:
        _encode(value)
    except ValueError:
        return False
    return True


def _query_error(source: InputSource, error: duckdb.Error) -> InputError:
    found = re.search(r"^LINE (\d+):", str(error), re.MULTILINE)
    place = f" (line {found[1]} of the query)" if found else ""
    candidates = re.search(r"^Candidate bindings: (.*)$", str(error), re.MULTILINE)
    return InputError(
        f"the query of input '{source.name}' failed{place}: {first_sentence(error)}",
        where=source.location,
        hint=f"columns near that name: {candidates[1]}" if candidates else "file names count from the flow's folder",
    )
