"""One line of JSON as a row.

Owns what is no JSON at all (the file is refused) and what is JSON that no row can hold (that row is bad).
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

from pydantic_core import from_json

from sundog.ir.normal_form import MAX_LEVELS, NoNormalForm, normal_form
from sundog.runtime.io.table import BadRow, Row
from sundog.runtime.io.values import whole_number


class NotARow(ValueError):
    """The line is no JSON object; the text says why, as in "this line is not JSON (...)"."""


def row_of(line: str | bytes) -> Row | BadRow:
    """The object that `line` holds, checked strictly (DuckDB is content with less than JSON); NotARow for none."""
    try:
        value = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        return _unusual(line, error)
    return _formed(value)


def _formed(value: object) -> Row | BadRow:
    if type(value) is not dict:
        raise NotARow("this line is not a JSON object")
    try:
        formed: Row = normal_form(value)
    except NoNormalForm as error:
        return BadRow(str(error))
    return formed


def _unusual(line: str | bytes, refused: ValueError) -> Row | BadRow:
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
