"""Columns that a plan reads against the columns that there are.

Owns the check that waits until the inputs have been opened. Never opens them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sundog.errors import InputError, Location, suggest
from sundog.ir.logical import InputSource, Table, templates_of
from sundog.ir.schemas.shape import Record, find_path_mistake
from sundog.ir.templates.template import ROW, Path


def check_columns(table: Table, inputs: Sequence[InputSource], row_shape: Record) -> None:
    """Raise InputError for the first column that `table` reads and its rows lack.

    `row_shape`: the columns of its input or query, and for each joined input its name with a Record of its columns.
    """
    for source in inputs:
        if source.key is None or source.name not in table.joined:
            continue
        own, driving = source.key
        _check((source.name, own), row_shape, source.location or source.name)
        _check((driving,), row_shape, source.location or source.name)
    for path, where in _columns_read(table):
        _check(path, row_shape, where)


def columns_that_rows_need(table: Table) -> tuple[str, ...]:
    """Return the columns of its rows that `table` reads, in the order of the alphabet."""
    return tuple(sorted({path[0] for path, _ in _columns_read(table) if path}))


def _columns_read(table: Table) -> Iterator[tuple[Path, Location | str]]:
    for node in table.nodes:
        for template in templates_of(node):
            yield from ((path[1:], node.location or node.name) for path in sorted(template.paths) if path[0] == ROW)
    for name, template in table.outputs:
        yield from ((path[1:], f"outputs.{name}") for path in sorted(template.paths) if path[0] == ROW)


def _check(path: Path, row_shape: Record, where: Location | str) -> None:
    if path and path[0] not in dict(row_shape.fields):
        columns = [name for name, _ in row_shape.fields]
        raise InputError(f"the input has no column '{path[0]}'", where=where, hint=suggest(path[0], columns))
    if mistake := find_path_mistake(row_shape, path, ROW):
        raise InputError(mistake[0], where=where, hint=mistake[1])
