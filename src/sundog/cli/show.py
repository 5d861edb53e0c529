"""`sundog show`: the rows of a run, or its failures, whether an output was asked for or not."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sundog.cli.options import Debug, RunId, State
from sundog.cli.terminal.console import print_note, print_result, require_stdout, result_stream
from sundog.config import read_config

if TYPE_CHECKING:
    from sundog.runtime.kept_runs import RunRows

NUM_TABLE_ROWS = 20


class RowsFormat(StrEnum):
    JSONL = "jsonl"
    CSV = "csv"
    TABLE = "table"


RowsFormatOption = Annotated[
    RowsFormat | None,
    typer.Option("--format", help="How to print them. [default: table on a terminal, else jsonl]", show_default=False),
]
TableOption = Annotated[str | None, typer.Option("--table", help="The table, of several.", show_default=False)]
Errors = Annotated[bool, typer.Option("--errors", help="The failed rows: row, step, cause and attempts.")]
RowsLimit = Annotated[
    int | None,
    typer.Option(min=1, help=f"Only the first N. [default: {NUM_TABLE_ROWS} in a table, else all]", show_default=False),
]


def show(
    run: RunId,
    table: TableOption = None,
    errors: Errors = False,
    form: RowsFormatOption = None,
    limit: RowsLimit = None,
    state: State = None,
    debug: Debug = False,
) -> None:
    """Print the rows of a run."""
    from sundog.runtime.kept_runs import opened_rows

    require_stdout()
    form = form or (RowsFormat.TABLE if sys.stdout.isatty() else RowsFormat.JSONL)
    with opened_rows(read_config(state).state_dir, run, table, is_failed=errors) as rows:
        if not rows.num_rows:
            print_note(f"run {rows.run_id} has no {'failed rows' if errors else 'output rows'}{_others(rows)}")
        elif form is RowsFormat.TABLE:
            _print_table(rows, NUM_TABLE_ROWS if limit is None else limit)
        else:
            with result_stream() as stream:
                rows.write(stream, "csv" if form is RowsFormat.CSV else "jsonl", limit)


def _others(rows: RunRows) -> str:
    return (
        f"; {rows.num_others:,} {'are done' if rows.is_failed else 'have failed: --errors'}" if rows.num_others else ""
    )


def _print_table(rows: RunRows, limit: int) -> None:
    """Print a line a row, as wide as the terminal, with the number of those that are left out."""
    shown = [{name: _cell(value) for name, value in row.items()} for row in islice(rows, limit)]
    print_result("\n".join(row_lines(rows.columns, shown, shutil.get_terminal_size((120, 24)).columns)))
    if rows.num_rows > limit:
        print_note(f"{rows.num_rows - limit:,} more rows: --limit {rows.num_rows}")


def row_lines(columns: tuple[str, ...], rows: list[dict[str, str]], width: int) -> Iterator[str]:
    """Yield lines of at most `width` characters; the widest columns give way first."""
    from rich.cells import cell_len, set_cell_size

    widths = [
        min(width, max(cell_len(text) for text in (name, *(row.get(name, "") for row in rows)))) for name in columns
    ]
    while sum(widths) + 2 * (len(widths) - 1) > width and max(widths) > 4:
        widths[widths.index(max(widths))] -= 1
    for cells in (columns, *(tuple(row.get(name, "") for name in columns) for row in rows)):
        cut = [
            set_cell_size(text if cell_len(text) <= size else f"{set_cell_size(text, size - 1)}…", size)
            for text, size in zip(cells, widths, strict=True)
        ]
        yield set_cell_size("  ".join(cut), width).rstrip()


def _cell(value: Any) -> str:
    """Return a value on one line; control characters of an answer must not act on the terminal."""
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(character if character.isprintable() else " " for character in " ".join(text.split()))
