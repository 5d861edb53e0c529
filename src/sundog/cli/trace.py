"""`sundog trace`: a run's event log for a viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sundog.cli.console import print_result
from sundog.cli.options import Debug, State
from sundog.config import read_config


def trace(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Its id, as `sundog runs` lists it.", show_default=False)],
    output: Annotated[Path | None, typer.Option(help="Where to. [default: RUN.trace.json]")] = None,
    state: State = None,
    debug: Debug = False,
) -> None:
    """Export a run as a trace that ui.perfetto.dev and chrome://tracing open."""
    from sundog.runtime.history import event_logs
    from sundog.runtime.io.whole_file import whole_file
    from sundog.runtime.trace import write_trace

    logs = event_logs(read_config(state).state_dir, run)
    target = output or Path(f"{run}.trace.json")
    with whole_file(target) as file:
        write_trace(logs, file)
    print_result(f"{target}: open it at https://ui.perfetto.dev or in chrome://tracing")
