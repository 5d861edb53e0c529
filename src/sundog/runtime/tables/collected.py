"""Rows that are equal in some columns, folded into one row with a list of them.

Owns the order of groups, the form of such a row and how large it may be. One group is in memory at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from sundog.execution.input_row import Lacks
from sundog.ir.logical import Table
from sundog.ir.sql_types import ListType, StructType
from sundog.ir.tables import CollectedRows
from sundog.queries.marked import FAILED, with_mark
from sundog.queries.parsed import parse_query
from sundog.runtime.rows.duck import MAX_LINE_BYTES
from sundog.runtime.rows.formats.json_line import bad_line, bad_row_of
from sundog.runtime.tables.column_types import ColumnTypes
from sundog.runtime.tables.lines_by_key import lines_by_key
from sundog.runtime.tables.relations import Relations

MAX_GROUP_BYTES = MAX_LINE_BYTES // 2
_MADE = "reduce__"
"""Begins the names of the columns that an expansion adds to those of a group."""
_MAX_SHOWN = 60
_FIRST = -(2**63)
"""The number of rows without one."""


def collected_columns(columns: ColumnTypes, source: CollectedRows) -> ColumnTypes:
    """Return the columns of a collected row, where those of the query are `columns`."""
    types = dict(columns)
    of_one = StructType(tuple((name, type) for name, type in columns if name not in source.left_out))
    return (*((name, types[name]) for name in source.by), (source.as_, ListType(of_one)))


def collected_lines(table: Table, source: CollectedRows, relations: Relations, nulled: Counter[str]) -> Iterator[bytes]:
    """Yield a line of JSON for each group, in the order of their first rows; a `bad_line` for one that holds what no
    row can, and for one that is too large. `nulled` and errors: as of `Relations.lines`."""
    query = parse_query(source.sql)
    if table.failed_rows == "mark":
        query = with_mark(query, marked_relation(source))
    lines = relations.lines(table, query, nulled, is_ordered=source.order_by is None)
    with lines_by_key(table, lines, lambda line: _key(line, source), relations) as groups:
        for group in groups:
            yield _folded(map(_read, group), source)


def marked_relation(source: CollectedRows) -> str:
    """Return the table whose failed rows are marked: of several that a made query reads, the last."""
    return source.reads[-1]


def _key(line: bytes, source: CollectedRows) -> tuple[bytes, int | None]:
    """Return a text that the rows of one group share, and the row's number in the order. Equal numbers are one group,
    and there are two zeros."""
    row = from_json(line)
    values = (row.get(name) for name in source.by)
    key = to_json([0.0 if isinstance(value, float) and value == 0 else value for value in values])
    if source.order_by is None:
        return key, None
    number = row.get(source.order_by)
    return key, _FIRST if number is None else number


@dataclass(frozen=True, slots=True)
class _Line:
    """One row of a group."""

    row: dict[str, Any]
    #: The reason why no row can be so, None where one can.
    why_bad: str | None
    num_bytes: int
    #: The tables in which rows failed so that this one is missing; empty where it is there.
    failed_in: tuple[str, ...]


def _read(line: bytes) -> _Line:
    row, bad = from_json(line), bad_row_of(line.decode())
    return _Line(row, None if bad is None else bad.reason, len(line), tuple(row.pop(FAILED, None) or ()))


def _folded(group: Iterator[_Line], source: CollectedRows) -> bytes:
    head: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    num_rows = num_bytes = num_failed = 0
    reason, hint, lacks, failed_in = None, None, None, set[str]()
    for line in group:
        row = line.row
        if not num_rows:
            head = {name: row.get(name) for name in source.by}
        num_rows, num_bytes, reason = num_rows + 1, num_bytes + line.num_bytes, reason or line.why_bad
        num_failed += bool(line.failed_in)
        failed_in.update(line.failed_in)
        if reason is None and num_rows <= source.max_group_rows and num_bytes <= MAX_GROUP_BYTES:
            rows.append({name: value for name, value in row.items() if name not in source.left_out})
        else:
            rows.clear()
    if num_rows > source.max_group_rows:
        reason = f"{_shown(head)} has {num_rows:,} rows, and max_group_rows is {source.max_group_rows:,}"
    elif num_bytes > MAX_GROUP_BYTES:
        reason = f"the rows of {_shown(head)} are {num_bytes:,} bytes, and a row holds {MAX_GROUP_BYTES:,}"
    elif num_failed:
        lacks = Lacks(marked_relation(source), tuple(sorted(failed_in)))
        listed = ", ".join(f"'{table}'" for table in lacks.failed_in)
        reason = f"{num_failed:,} of {num_rows:,} parts of {_shown(head)} failed: rows of {listed}"
        hint = "see these rows in the errors file; --retry-failed tries them again, and then this one"
    folded = to_json({**head, source.as_: rows}) if reason is None else bad_line(reason, head, hint, lacks)
    return folded + b"\n"


def _shown(head: dict[str, Any]) -> str:
    """Return the group by its columns, but for those that an expansion made."""
    by = {name: value for name, value in head.items() if not name.startswith(_MADE)}
    text = ", ".join(f"{name} = {to_json(value).decode()}" for name, value in by.items())
    return f"the group {text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + '...'}".rstrip()
