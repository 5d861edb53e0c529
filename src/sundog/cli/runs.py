"""`sundog runs`: what has been run, and how it stands."""

from __future__ import annotations

import json
import shutil
import sys
from typing import Annotated, Any

import typer

from sundog.cli.options import JSON, Debug, State
from sundog.cli.terminal.completion import run_ids
from sundog.cli.terminal.console import print_result
from sundog.config import read_config

RUN_COLUMNS = ("run", "state", "rows", "done", "failed", "dropped", "began", "output")
LEAST_WANTED = ("dropped", "began", "output", "failed", "rows")
"""The columns that go first where a terminal is too narrow for all."""
MIN_OUTPUT_CHARS = 16
Prefix = Annotated[
    str,
    typer.Argument(
        metavar="[RUN]",
        help="Only runs whose id begins so; `last` is the newest.",
        show_default=False,
        autocompletion=run_ids,
    ),
]


def runs(run: Prefix = "", state: State = None, as_json: JSON = False, debug: Debug = False) -> None:
    """List the runs of a state folder, newest first."""
    from sundog.runtime.kept_runs import list_runs, shown_state

    folder = read_config(state).state_dir
    found = [summary.to_dict() for summary in list_runs(folder, run)]
    if as_json:
        print_result(json.dumps(found))
    elif found:
        width = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else None
        print_result("\n".join(run_lines(found, width)))
    else:
        print_result(f"no runs in {shown_state(folder)}")


def run_lines(found: list[dict[str, Any]], width: int | None) -> list[str]:
    """Return a line a run, of at most `width` characters; None for as many as there are. A narrow terminal gets times
    without fractions, the end of the output's path, and then fewer columns."""
    columns = list(RUN_COLUMNS)
    cells = {name: [name, *(_cell(one[name]) for one in found)] for name in columns}
    if width is not None:
        cells["began"] = [text[:19].replace("T", " ") for text in cells["began"]]
        cells["output"] = [
            _end_of(text, max(MIN_OUTPUT_CHARS, _room(cells, columns, width))) for text in cells["output"]
        ]
        for name in LEAST_WANTED:
            if _room(cells, columns, width) < _width(cells["output"]) * ("output" in columns):
                columns.remove(name)
    widths = {name: _width(cells[name]) for name in columns}
    lines = zip(*(cells[name] for name in columns), strict=True)
    return [
        "  ".join(text.ljust(widths[name]) for name, text in zip(columns, line, strict=True)).rstrip() for line in lines
    ]


def _room(cells: dict[str, list[str]], columns: list[str], width: int) -> int:
    """Return the number of characters that the columns before the output leave to it."""
    return width - sum(_width(cells[name]) + 2 for name in columns if name != "output")


def _width(texts: list[str]) -> int:
    return max(map(len, texts))


def _end_of(text: str, length: int) -> str:
    return text if len(text) <= length else f"…{text[1 - length :]}"


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value or "-")
