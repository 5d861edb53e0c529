"""Rows as a CSV file.

Owns how a value stands in a field, and what is told of values that other programs may take for something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from pydantic_core import to_json

if TYPE_CHECKING:
    from sundog.runtime.rows.formats.stored_rows import SizedRow

# The beginnings that a spreadsheet takes for a formula; a plain number is none.
_FORMULA = re.compile(r"[=+\-@\t\r](?![0-9.]*([eE][+-]?[0-9]+)?\Z)")


@dataclass(slots=True)
class _Told:
    """The counts that warnings are given for."""

    num_formulas: int = 0
    #: The row's number and the column of the first one.
    first_formula: tuple[int, str] | None = None
    num_lost_nulls: int = 0

    def formula(self, row_number: int, column: str) -> None:
        self.num_formulas += 1
        self.first_formula = self.first_formula or (row_number, column)

    def warnings(self) -> tuple[str, ...]:
        """Return what a reader of the file must be told, a sentence each."""
        found = []
        if self.first_formula is not None:
            row_number, column = self.first_formula
            found.append(
                f"{self.num_formulas:,} texts begin with = + - or @ (the first in column '{column}' of output row "
                f"{row_number}); they are written as they are, and a spreadsheet may run them as formulas"
            )
        if self.num_lost_nulls:
            found.append(
                f'{self.num_lost_nulls:,} nulls are written as empty text (""): a blank line is no row of a csv file '
                "with one column"
            )
        return tuple(found)


def write_csv(stream: BinaryIO, columns: Sequence[str], rows: Iterator[SizedRow]) -> tuple[str, ...]:
    """Write the header and `rows`: null is an empty field, empty text is "", lists and records are JSON text."""
    told = _Told()
    stream.write((",".join(_quote(name) for name in columns) + "\n").encode())
    for number, (row, _) in enumerate(rows):
        line = ",".join([_field(row[name]) for name in columns])
        for name in columns:
            if type(row[name]) is str and _FORMULA.match(row[name]):
                told.formula(number, name)
        # A blank line is no record to many readers.
        told.num_lost_nulls += not line
        stream.write((line or '""').encode() + b"\n")
    return told.warnings()


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
    """Quote as RFC 4180 has it; empty text is quoted, so that it is not null."""
    if text and not any(mark in text for mark in ',"\r\n'):
        return text
    return '"' + text.replace('"', '""') + '"'
