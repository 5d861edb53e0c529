"""Stopping a run before it has begun."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sundog.config import read_config
from sundog.errors import RunStopped
from sundog.runtime.run_options import RunOptions
from sundog.session.flow_file import load_plan
from sundog.session.session import plan_session
from tests.cli.flows import num_checks, write_checked


def test_a_run_that_is_stopped_while_its_engines_start_calls_nothing(tmp_path: Path) -> None:
    write_checked(tmp_path, 5, bad="")
    (tmp_path / "calls").touch()
    session = plan_session(load_plan(tmp_path / "flow.yaml", {}), tmp_path, read_config())
    with session.open_run(RunOptions(tmp_path / "state")) as run:
        run.stop()
        with pytest.raises(RunStopped, match="interrupted"):
            asyncio.run(run.execute())
    assert num_checks(tmp_path) == 0
