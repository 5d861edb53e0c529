"""Rows of a waiting query, or of its groups: run once, when its sources have ended, and kept as lines of JSON.

Owns the file of a made table, and its rows as a source like any input. A file that is there is used as it is, so that a
run that was killed goes on with the rows that it began with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sundog.ir.logical import InputSource, Table
from sundog.ir.tables import CollectedRows, QueryRows
from sundog.queries.parsed import parse_query
from sundog.runtime.rows.inputs import RowSource, open_rows
from sundog.runtime.rows.snapshot import write_snapshot
from sundog.runtime.tables.collected import collected
from sundog.runtime.tables.relations import Relations


def make(table: Table, relations: Relations, folder: Path) -> None:
    """Run the query of `table` over `relations` into `folder`, whole or not at all, unless that was done before.
    RunError where it fails or gives too many rows."""
    path = folder.absolute() / f"{table.name}.jsonl"
    if not path.exists():
        write_snapshot(path, lambda nulled: _lines(table, relations, nulled))


def _lines(table: Table, relations: Relations, nulled: Counter[str]) -> Iterator[bytes]:
    match table.source:
        case QueryRows(sql=sql):
            return relations.lines(table, parse_query(sql), nulled)
        case CollectedRows(sql=sql, by=by) as source:
            return collected(relations.grouped_lines(table, parse_query(sql), by, nulled), source)
    raise AssertionError(f"the rows of '{table.name}' are not those of a query")


def made_rows(table: Table, folder: Path) -> RowSource:
    """Return the rows of a table that `make` has made there."""
    assert isinstance(table.source, QueryRows | CollectedRows)
    source = InputSource(table.name, query=table.source.sql, location=table.location)
    return open_rows((source,), base_dir=folder, snapshot_dir=folder)
