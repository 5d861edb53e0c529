"""A run that cells have worked on, looked at from another machine: its rows, its figures and the event logs of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sundog.config import Config, environment_secrets, read_config
from sundog.errors import ConfigError
from sundog.runtime.kept_runs import event_logs, run_id_of
from sundog.runtime.run_options import RunOptions
from sundog.runtime.watched_run import read_standing
from sundog.session.flow_file import load_plan
from sundog.session.session import plan_session
from sundog.store.segments import cache
from sundog.store.segments.storage import ObjectStorage
from tests.cells.cluster_runs import Machines
from tests.cli.flows import sundog, write_review
from tests.store.segments.storages import opened

NUM_ROWS = 12


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The state of a run that three cells have worked on; this process has seen nothing of it."""
    write_review(tmp_path)
    machines = Machines(tmp_path)
    machines.run(machines.work)
    monkeypatch.setenv("SUNDOG_CACHE", str(tmp_path / "looking"))
    monkeypatch.setattr(cache, "_STATES", {})
    return f"file://{tmp_path}/state"


def test_the_run_and_its_rows_are_those_of_all_cells(url: str, tmp_path: Path) -> None:
    [run] = json.loads(sundog(tmp_path, "runs", "--state", url, "--json").stdout)
    assert (run["state"], run["rows"], run["done"], run["failed"]) == ("finished", NUM_ROWS, NUM_ROWS, 0)
    shown = sundog(tmp_path, "show", "last", "--state", url, "--format", "jsonl")
    assert shown.stdout.encode() == (tmp_path / "out.jsonl").read_bytes()


def test_a_watched_run_is_read_from_the_logs_of_all(url: str) -> None:
    state_dir = read_config(url).state_dir
    standing = read_standing(state_dir, run_id_of(state_dir, "last"))
    assert standing.rows == {"": {"done": NUM_ROWS}}
    assert standing.nodes["facts"].num_asked == NUM_ROWS
    assert standing.plan is not None


def test_each_cell_has_a_trace(url: str, tmp_path: Path) -> None:
    asked = sundog(tmp_path, "trace", "last", "--state", url)
    assert asked.exit_code == 2
    assert "each cell of the run" in asked.stderr
    assert "--cell 0" in asked.stderr
    requests: list[dict[str, Any]] = []
    for number in range(3):
        target = tmp_path / f"{number}.json"
        ran = sundog(tmp_path, "trace", "last", "--state", url, "--cell", str(number), "--output", str(target))
        assert ran.exit_code == 0, ran.stderr
        events = json.loads(target.read_text())["traceEvents"]
        requests += [one for one in events if "row" in one.get("args", {}) and one["args"]["ending"] == "finished"]
    run = json.loads(sundog(tmp_path, "runs", "--state", url, "--json").stdout)[0]
    assert {one["args"]["row"] for one in requests} == set(range(NUM_ROWS))
    assert run["done"] == NUM_ROWS


def test_a_cell_that_is_not_there_is_told(url: str) -> None:
    state_dir = read_config(url).state_dir
    run_id = run_id_of(state_dir, "last")
    names = {path.parent.name for number in "012" for path in event_logs(state_dir, run_id, number)}
    assert len(names) == 3
    for name in names:
        [log] = event_logs(state_dir, run_id, name)
        assert log.parent.name == name
    with pytest.raises(ConfigError, match="no event log of a cell '7' was kept\n"):
        event_logs(state_dir, run_id, "7")


def test_a_run_of_one_process_has_no_cells(tmp_path: Path) -> None:
    write_review(tmp_path)
    sundog(tmp_path, "run", "flow.yaml")
    ran = sundog(tmp_path, "trace", "last", "--cell", "0")
    assert "no event log of a cell '0' was kept\n  it was worked on by one process" in ran.stderr
    assert sundog(tmp_path, "trace", "last", "--row", "1", "--cell", "0").exit_code == 2
    assert sundog(tmp_path, "trace", "last").exit_code == 0


def test_the_plan_of_a_run_that_begins_is_there_for_others(tmp_path: Path) -> None:
    """Its rows may run for days before anything else of its folder is kept."""
    write_review(tmp_path)
    url = f"file://{tmp_path}/state"
    working, looking = (opened(ObjectStorage(url), tmp_path / name).folder for name in ("working", "looking"))
    session = plan_session(load_plan(tmp_path / "flow.yaml", {}), tmp_path, Config(working, environment_secrets()))
    with session.open_run(RunOptions(working)) as run:
        run_id = run.record.run_id
    assert read_standing(looking, run_id).plan is not None
