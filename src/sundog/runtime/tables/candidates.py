"""The candidate pairs of a table, in words: how many a model is to judge, the largest blocks, and what is in no pair.

Owns these words and the file that keeps them for the report. Reads the pairs that were made, and makes none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic_core import from_json, to_json

from sundog.execution.input_row import BadRow
from sundog.ir.logical import Table
from sundog.ir.sql_types import sql_name
from sundog.ir.tables import COMPARED, NUMBER, PAIRS
from sundog.ir.values.normal_form import encode
from sundog.private_files import FILE_MODE
from sundog.queries.parsed import parse_query
from sundog.runtime.rows.duck import new_name
from sundog.runtime.rows.formats.loaded_json import load_lines
from sundog.runtime.rows.inputs import RowSource
from sundog.runtime.rows.whole_file import whole_file
from sundog.runtime.tables.relations import Relations

MAX_BLOCKS = 3
_MAX_SHOWN = 60
_TYPES = {"left_id": "BIGINT", "right_id": "BIGINT", "left": "JSON", "right": "JSON"}


@dataclass(frozen=True, slots=True)
class ToldPairs:
    """This class holds what is told of the pairs of one table."""

    note: str
    #: Sentences about what is in no pair though nobody said so.
    warnings: tuple[str, ...] = ()


def told_pairs(table: Table, rows: RowSource, taken: frozenset[int] | None, relations: Relations) -> ToldPairs:
    """Return what is told of `rows`, the pairs of `table`, of which those with the numbers `taken` are judged, None for
    all. What the table reads is there. RunError where DuckDB fails."""
    num_pairs = rows.count() if taken is None else len(taken)
    blocks = ", ".join(f"{_short(text)} {_pairs(number)}" for text, number in _largest(table, rows, taken, relations))
    note = f"{table.block}: {_pairs(num_pairs)} to judge"
    return ToldPairs(f"{note}; largest blocks: {blocks}" if blocks else note, tuple(_without_vector(table, relations)))


def keep_told(told: ToldPairs, table: str, folder: Path) -> None:
    """Keep what was told of the pairs of `table` beside its rows."""
    with whole_file(_kept_at(table, folder), FILE_MODE) as file:
        file.write(to_json(asdict(told)))


def kept_told(table: str, folder: Path) -> ToldPairs | None:
    """Return what was told of the pairs of `table`, None where nothing was."""
    path = _kept_at(table, folder)
    if not path.exists():
        return None
    found = from_json(path.read_bytes())
    return ToldPairs(found["note"], tuple(found["warnings"]))


def _kept_at(table: str, folder: Path) -> Path:
    return folder.absolute() / f"{table}.candidates.json"


def _largest(
    table: Table, rows: RowSource, taken: frozenset[int] | None, relations: Relations
) -> list[tuple[str, int]]:
    candidates = table.candidates
    if candidates is None or candidates.blocks is None:
        return []
    types = {name: _TYPES[name] for name in candidates.columns}
    parameters = {name: relations.constants[name] for name in parse_query(candidates.blocks).parameters}
    with relations.scratch(table) as (cursor, _):
        name = new_name("pairs")
        try:
            load_lines(cursor, name, _lines(rows, taken, candidates.columns), types)
            select = (
                f"WITH {PAIRS} AS (SELECT * FROM {name}),"
                f" {COMPARED} AS (SELECT *, rowid AS {NUMBER} FROM {sql_name(table.reads[0])})"
                f" SELECT block, num_pairs FROM ({candidates.blocks}) WHERE num_pairs > 1"
                f" ORDER BY num_pairs DESC, block LIMIT {MAX_BLOCKS}"
            )
            return cursor.execute(select, parameters or None).fetchall()
        finally:
            cursor.execute(f"DROP TABLE IF EXISTS {name}")


def _lines(rows: RowSource, taken: frozenset[int] | None, columns: tuple[str, ...]) -> Iterator[bytes]:
    for batch in rows.batches():
        for number, row in batch:
            if not isinstance(row, BadRow) and (taken is None or number in taken):
                yield encode({name: row[name] for name in columns})


def _without_vector(table: Table, relations: Relations) -> Iterator[str]:
    candidates = table.candidates
    if candidates is None or candidates.vector is None:
        return
    vector = sql_name(candidates.vector)
    lacks = f"{vector} IS NULL OR isnan(array_cosine_similarity({vector}, {vector}))"
    for name in table.reads:
        if candidates.vector not in dict(relations.columns_of(name)):
            continue
        with relations.scratch(table) as (cursor, _):
            select = f"SELECT count(*), count(*) FILTER (WHERE {lacks}) FROM {sql_name(name)}"
            ((num, num_without),) = cursor.execute(select).fetchall()
        if num_without:
            of = table.block if candidates.compared == "values" else name
            has, near = ("has", "is") if num_without == 1 else ("have", "are")
            yield (
                f"{num_without:,} of {num:,} {candidates.compared} of '{of}' {has} no vector, or one of the length 0,"
                f" and {near} near nothing"
            )


def _pairs(number: int) -> str:
    return "1 pair" if number == 1 else f"{number:,} pairs"


def _short(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."
