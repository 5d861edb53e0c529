"""Runs of the workload: in one process, or on a Ray cluster of this machine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

from sundog.config import read_config
from sundog.runtime.figures.report import Report
from sundog.runtime.row_work import OpenWork
from sundog.runtime.run import Run
from sundog.runtime.run_options import RunOptions
from sundog.session.flow_file import load_plan
from sundog.session.session import plan_session

Disturb = Callable[[Run], None]


def run_workload(folder: Path, state: str, work: OpenWork | None = None, disturb: Disturb | None = None) -> Report:
    """Run flow.yaml of a folder into out.jsonl there. `work`: None for this process alone. `disturb`: called in a
    thread of its own while the run goes on."""
    config = read_config(state)
    session = plan_session(load_plan(folder / "flow.yaml", {}), folder, config)
    with session.open_run(RunOptions(config.state_dir, {"": folder / "out.jsonl"}), work) as run:
        thread = threading.Thread(target=lambda: disturb and disturb(run), daemon=True)
        thread.start()
        report = asyncio.run(run.execute())
        thread.join()
    return report
