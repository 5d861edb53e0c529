"""Rows of a waiting query, of its groups or of a graph: made once, when the sources have ended, kept as lines of JSON.

Owns the file of a made table, and its rows as a source like any input. A file that is there is used as it is, so that a
run that was killed goes on with the rows that it began with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from sundog.ir.logical import InputSource, Table
from sundog.ir.tables import CollectedRows, ComponentRows, QueryRows
from sundog.queries.parsed import parse_query
from sundog.runtime.rows.inputs import RowSource, open_rows
from sundog.runtime.rows.snapshot import notes_beside, write_snapshot
from sundog.runtime.tables.collected import collected_lines
from sundog.runtime.tables.column_types import ColumnTypes
from sundog.runtime.tables.components import component_lines
from sundog.runtime.tables.relations import Relations


def make(table: Table, relations: Relations, folder: Path) -> None:
    """Run the query of `table` over `relations` into `folder`, whole or not at all, unless that was done before.
    RunError where it fails or gives too many rows."""
    path = folder.absolute() / f"{table.name}.jsonl"
    if not path.exists():
        write_snapshot(path, lambda nulled: _lines(table, relations, nulled))


def make_marked(
    table: Table, columns: ColumnTypes, rows: Iterable[tuple[bytes, Sequence[str]]], relations: Relations, folder: Path
) -> None:
    """Do as `make` does for a table that marks what failed rows belong to. `rows`: those of the table that it reads, as
    `Relations.marked` takes them."""
    if not (folder.absolute() / f"{table.name}.jsonl").exists():
        with relations.marked(table.name, table.reads[-1], columns, rows):
            make(table, relations, folder)


def _lines(table: Table, relations: Relations, nulled: Counter[str]) -> Iterator[bytes]:
    match table.source:
        case QueryRows(sql=sql):
            return relations.lines(table, parse_query(sql), nulled)
        case CollectedRows() as source:
            return collected_lines(table, source, relations, nulled)
        case ComponentRows() as source:
            return component_lines(table, source, relations)
    raise AssertionError(f"the rows of '{table.name}' are those of an input")


def notes_on_made(tables: Sequence[str], folder: Path) -> Iterator[str]:
    """Yield what changed in the values of the queries of `tables` when these were made, a sentence each."""
    for name in tables:
        yield from (f"table '{name}': {note}" for note in notes_beside(folder / f"{name}.jsonl"))


def made_rows(table: Table, folder: Path) -> RowSource:
    """Return the rows of a table that `make` has made there."""
    source = InputSource(table.name, query=f"the rows of {table.name}", location=table.location)
    return open_rows((source,), base_dir=folder, snapshot_dir=folder)
