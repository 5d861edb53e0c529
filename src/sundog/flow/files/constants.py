"""Constants in files of their own: `{file: rules.yaml}` becomes what the file holds.

Owns reading these files, which lie in the flow's folder and nowhere else. The content is the constant, and so part of
what a run is known by; the file's name is not.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sundog.errors import FlowError, Location
from sundog.flow.complaints import Complaints
from sundog.flow.files.in_folder import read_file_of_flow
from sundog.flow.positions import Positions, read_document
from sundog.ir.values.normal_form import normal_form

FILE = "file"
KINDS = ".yaml, .yml, .json and .csv"


def with_constant_files(
    constants: Mapping[str, Any], base_dir: Path, positions: Positions, complaints: Complaints
) -> dict[str, Any]:
    """Return the constants with the content of files in place of `{file: ...}`; what cannot be read is complained of,
    and is null."""
    found: dict[str, Any] = {}
    for name, value in constants.items():
        found[name] = value
        if isinstance(value, Mapping) and set(value) == {FILE}:
            try:
                found[name] = _content(value[FILE], base_dir)
            except FlowError as error:
                found[name] = None
                where = error.where if isinstance(error.where, Location) else positions.value(("constants", name, FILE))
                complaints.add(error.what, where, error.hint)
    return found


def _content(name: Any, base_dir: Path) -> Any:
    if not isinstance(name, str):
        raise FlowError("'file' names a file of the flow's folder", hint="write it as {file: rules.yaml}")
    kind = Path(name).suffix.lower()
    if kind not in (".yaml", ".yml", ".json", ".csv"):
        raise FlowError(f"no constant is read from '{name}'", hint=f"a constant's file is one of {KINDS}")
    text = read_file_of_flow(base_dir, name, "file")
    try:
        if kind == ".csv":
            return _rows(text, str(base_dir / name))
        data = _json(text) if kind == ".json" else read_document(text, str(base_dir / name)).data
        return normal_form(data)
    except (ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise FlowError(f"the file '{name}' cannot be read: {why}") from error


def _json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_mapping, parse_constant=_refuse)


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
        raise ValueError(f"the key {twice!r} is there twice in one mapping")
    return found


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _rows(text: str, file: str) -> list[dict[str, str]]:
    """Return the lines below the first as mappings of its columns to text."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[dict[str, str]] = []
    columns: list[str] | None = None
    try:
        for fields in reader:
            if columns is None:
                columns = fields
                if len(set(columns)) < len(columns) or "" in columns:
                    raise ValueError("its first line must name every column, each differently")
            elif len(fields) == len(columns):
                rows.append(dict(zip(columns, fields, strict=True)))
            elif fields:
                what = f"the line has {len(fields)} fields, and there are {len(columns)} columns"
                raise FlowError(what, where=Location(file, reader.line_num, 1))
    except csv.Error as error:
        raise FlowError(f"this is no csv: {error}", where=Location(file, reader.line_num, 1)) from error
    return rows
