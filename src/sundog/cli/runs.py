"""`sundog runs`: what has been run, and how it stands."""

from __future__ import annotations

import json
from typing import Any

from sundog.cli.console import print_result
from sundog.cli.options import JSON, Debug, State
from sundog.config import read_config

COLUMNS = ("run", "state", "rows", "done", "failed", "dropped", "began", "output")


def runs(state: State = None, as_json: JSON = False, debug: Debug = False) -> None:
    """List the runs of a state folder, newest first."""
    from sundog.runtime.history import list_runs

    folder = read_config(state).state_dir
    found = [summary.to_dict() for summary in list_runs(folder)]
    if as_json:
        print_result(json.dumps(found))
    elif found:
        print_result("\n".join(_table(found)))
    else:
        print_result(f"no runs in {folder}")


def _table(found: list[dict[str, Any]]) -> list[str]:
    cells = [COLUMNS, *(tuple(_cell(one[name]) for name in COLUMNS) for one in found)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value or "-")
