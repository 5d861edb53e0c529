"""`sundog trace`: a run's event log for a viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sundog.cli.options import Debug, RunId, State
from sundog.cli.terminal.console import print_result
from sundog.config import read_config


def trace(
    run: RunId,
    output: Annotated[Path | None, typer.Option(help="Where to. [default: RUN.trace.json]")] = None,
    state: State = None,
    debug: Debug = False,
) -> None:
    """Export a run for a trace viewer.

    The file opens at https://ui.perfetto.dev and in chrome://tracing.
    """
    from sundog.host.trace import write_trace
    from sundog.runtime.kept_runs import event_logs, run_id_of
    from sundog.runtime.rows.whole_file import whole_file

    folder = read_config(state).state_dir
    run_id = run_id_of(folder, run)
    logs = event_logs(folder, run_id)
    target = output or Path(f"{run_id}.trace.json")
    with whole_file(target) as file:
        write_trace(logs, file)
    print_result(f"{target}: open it at https://ui.perfetto.dev or in chrome://tracing")
