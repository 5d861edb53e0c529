"""One line of JSON as a row.

Owns what is no JSON at all (the file is refused) and what is JSON that no row can hold (that row is bad).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn

from pydantic_core import from_json, to_json

from sundog.execution.input_row import BadRow, InputRow, Lacks
from sundog.ir.values.normal_form import MAX_LEVELS, NoNormalForm, normal_form
from sundog.runtime.rows.values.decoding import whole_number

# Private-use characters: no column of a user's is called so.
_BAD = "\ue000bad row\ue001"
_HINT = "\ue000hint\ue001"
_LACKS = "\ue000lacks\ue001"
_BAD_BEGINS = f'{{"{_BAD}":'


class NotARow(ValueError):
    """Raised where a line is no JSON object, with a text that says why, as in "this line is not JSON (...)"; caught by
    json_table."""


def row_of(line: str | bytes) -> InputRow | BadRow:
    """Return the object that `line` holds, checked strictly (DuckDB is content with less than JSON); NotARow for
    none."""
    try:
        value = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        return _unusual(line, error)
    return _formed(value)


def bad_line(reason: str, row: Mapping[str, Any], hint: str | None = None, lacks: Lacks | None = None) -> bytes:
    """Return the line of a copy or a snapshot that stands for a bad row: its reason, and the plain values of `row`, so
    that it is still found by its key. `hint` and `lacks`: as of `BadRow`."""
    kept: InputRow = {} if hint is None else {_HINT: hint}
    if lacks is not None:
        kept[_LACKS] = [lacks.table, *lacks.failed_in]
    for name, value in row.items():
        if value is None or isinstance(value, str | int | float):
            with suppress(NoNormalForm):
                kept |= normal_form({name: value})
    return to_json({_BAD: reason, **kept})


def reason_of(line: str) -> str | None:
    """Return why the row of a `bad_line` is bad; None for the line of any other row."""
    return str(from_json(line)[_BAD]) if line.startswith(_BAD_BEGINS) else None


def bad_row_of(line: str) -> BadRow | None:
    """Return the bad row that a `bad_line` stands for; None for the line of any other row."""
    if not line.startswith(_BAD_BEGINS):
        return None
    known = from_json(line)
    reason, hint, lacks = str(known.pop(_BAD)), known.pop(_HINT, None), known.pop(_LACKS, None)
    return BadRow(reason, known, hint, None if lacks is None else Lacks(lacks[0], tuple(lacks[1:])))


def object_in(line: str | bytes) -> Mapping[str, Any]:
    """Return what Python's own parser reads in the line of a bad row; empty where even that reads nothing."""
    try:
        value: Mapping[str, Any] = json.loads(line, parse_int=whole_number)
    except (ValueError, RecursionError):
        return {}
    return value


def _formed(value: object) -> InputRow | BadRow:
    if type(value) is not dict:
        raise NotARow("this line is not a JSON object")
    try:
        formed: InputRow = normal_form(value)
    except NoNormalForm as error:
        return BadRow(str(error))
    return formed


def _unusual(line: str | bytes, refused: ValueError) -> InputRow | BadRow:
    """Return what Python's own parser says of a line that the fast one refuses: that one knows no half of a surrogate
    pair, no great depth and no very long number, and does not tell these apart from what is no JSON."""
    try:
        return _formed(json.loads(line, parse_constant=_refuse, parse_int=whole_number))
    except NotARow:
        raise
    except RecursionError:
        return BadRow(f"the value is nested more than {MAX_LEVELS} levels deep")
    except ValueError as error:
        reason = re.sub(r" at line \d+ (column \d+)", r" at \1", str(refused))
        raise NotARow(f"this line is not JSON ({reason})") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
