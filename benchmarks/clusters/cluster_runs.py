"""Runs of the workload, in one process or on a Ray cluster: `python cluster_runs.py FOLDER STATE [ADDRESS]` is one, as
a process of its own, that can be killed. It prints its report as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sundog.config import read_config
from sundog.ray.on_ray import work_on_ray
from sundog.ray.options import RayOptions
from sundog.runtime.run_options import RunOptions
from sundog.session.flow_file import load_plan
from sundog.session.session import plan_session

NUM_CELLS = 3


def run_workload(folder: Path, state: str, address: str | None = None) -> dict[str, Any]:
    """Run flow.yaml of a folder into out.jsonl there; gives the report. `address`: of a Ray cluster, None for this
    process alone."""
    config = read_config(state)
    session = plan_session(load_plan(folder / "flow.yaml", {}), folder, config)
    options = RunOptions(config.state_dir, {"": folder / "out.jsonl"})
    with ExitStack() as opened:
        work = None
        if address is not None:
            asked = RayOptions(address, NUM_CELLS)
            work = opened.enter_context(work_on_ray(asked, config.state_dir, folder))
        run = opened.enter_context(session.open_run(options, work))
        return asyncio.run(run.execute()).to_dict()


def start_run(folder: Path, state: str, address: str | None = None) -> subprocess.Popen[str]:
    """`run_workload` in a process of its own, whose cache lies in the folder."""
    command = [sys.executable, __file__, str(folder), state, *([address] if address else [])]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def report_of(process: subprocess.Popen[str], timeout_s: float = 300.0) -> dict[str, Any]:
    """Return the report of a run that ends by itself."""
    stdout, stderr = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, stderr[-2000:]
    report: dict[str, Any] = json.loads(stdout.splitlines()[-1])
    return report


if __name__ == "__main__":
    print(json.dumps(run_workload(Path(sys.argv[1]), *sys.argv[2:])))
