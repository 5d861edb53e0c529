"""The text of a CSV file: its delimiter and its records with their line numbers.

Owns what is asked of a file before DuckDB reads it, and again after DuckDB refused it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sundog.runtime.rows.duck import MAX_LINE_BYTES
from sundog.runtime.rows.paths import UNREADABLE, open_bytes, open_text

DELIMITERS = ",;\t|"


class BadQuoting(Exception):
    """Raised where the record that begins on `line` breaks the rules of quoting; caught by csv_table."""

    def __init__(self, line: int, reason: str) -> None:
        self.line = line
        super().__init__(reason)


def records(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line it begins on, fields) of each record; BadQuoting, or one of UNREADABLE."""
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))
    with open_text(path) as text:
        reader = csv.reader(text, delimiter=delimiter, strict=True)
        line = 1
        try:
            for record in reader:
                yield line, record
                line = reader.line_num + 1
        except csv.Error as error:
            raise BadQuoting(line, str(error)) from error


def delimiter_of(path: Path) -> str:
    """Return the one of `DELIMITERS` that the header has most of, outside of quotes; a comma when it has none."""
    if ".tsv" in path.suffixes:
        return "\t"
    with open_text(path) as text:
        header = re.sub(r'"[^"]*"', "", text.readline(MAX_LINE_BYTES))
    return max(DELIMITERS, key=header.count)


def first_line_not_utf8(path: Path) -> int:
    """Return the line that UnicodeDecodeError is about, which does not say; the last one that can be read at all."""
    number = 0
    with open_bytes(path) as stream, suppress(*UNREADABLE):
        for line in stream:
            number += 1
            line.decode()
    return max(1, number)
