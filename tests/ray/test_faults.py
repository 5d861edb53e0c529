"""Parts of a cluster that are lost while a run goes on: what comes out, and what is called twice.

The figures of many such moments are those of benchmarks/cluster_faults.py.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sundog.cells.cell import MIN_ROWS_AHEAD
from sundog.config import read_config
from sundog.errors import ConfigError, RunError
from sundog.ray import cell_actor
from sundog.ray.cell_actor import CellActor, installed_here
from sundog.ray.on_ray import work_on_ray
from sundog.ray.options import RayOptions
from sundog.runtime.figures.report import Report
from sundog.runtime.run_options import RunOptions
from sundog.session.flow_file import load_plan
from sundog.session.session import plan_session
from tests.e2e.counting_server import CountingServer
from tests.e2e.processes import NUM_AT_ONCE, write_sending
from tests.e2e.processes import start as start_command
from tests.ray.clusters import processes_of, ray_cluster
from tests.ray.nodes import kill_nodes

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = pytest.mark.ray
pytest.importorskip("ray", reason="ray is not installed: pip install 'sundog[ray]'")

NUM_ROWS, NUM_CELLS = 60, 3
Disturb = Callable[[], None]


def run(folder: Path, output: str, disturb: Disturb | None = None, num_cells: int | None = NUM_CELLS) -> Report:
    """Run flow.yaml of a folder; on this process alone where `num_cells` is None."""
    config = read_config(f"file://{folder}/state-{output}")
    session = plan_session(load_plan(folder / "flow.yaml", {}), folder, config)
    options = RunOptions(config.state_dir, {"": folder / output})
    if num_cells is None:
        with session.open_run(options) as opened:
            return asyncio.run(opened.execute())
    with (
        work_on_ray(RayOptions(num_cells=num_cells), config.state_dir, folder) as work,
        session.open_run(options, work) as opened,
        ThreadPoolExecutor(1) as beside,
    ):
        disturbing = beside.submit(disturb or (lambda: None))
        report = asyncio.run(opened.execute())
        disturbing.result()
    return report


def when_all_wait(server: CountingServer, strike: Callable[[], None]) -> Disturb:
    """Shut the gate of a server; what is returned strikes once all places of its calls wait there, and opens it."""
    server.shut_gate()

    def disturb() -> None:
        try:
            server.wait_for(NUM_AT_ONCE)
            strike()
        finally:
            server.open_gate()

    return disturb


@pytest.fixture
def server() -> Iterator[CountingServer]:
    with CountingServer() as server:
        yield server


@pytest.fixture
def expected(tmp_path: Path, server: CountingServer, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The output of one process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_sending(tmp_path, server.origin, "GET", NUM_ROWS)
    run(tmp_path, "alone.jsonl", num_cells=None)
    server.asked.clear()
    return (tmp_path / "alone.jsonl").read_bytes()


def kill_cell(cluster: Cluster) -> None:
    os.kill(random.choice(processes_of("ray::CellActor")), signal.SIGKILL)


def kill_owner(cluster: Cluster) -> None:
    os.kill(processes_of("ray::OwnerActor")[0], signal.SIGKILL)


def remove_node(cluster: Cluster) -> None:
    """Lose a machine: without `kill_nodes` its cell works on until it has noticed that its raylet is gone."""
    node = next(iter(cluster.worker_nodes))
    kill_nodes([node])
    cluster.remove_node(node, allow_graceful=False)


def stop_cell(cluster: Cluster) -> None:
    pid, num_before = random.choice(processes_of("ray::CellActor")), len(processes_of("ray::CellActor"))
    os.kill(pid, signal.SIGSTOP)
    while len(processes_of("ray::CellActor")) == num_before:
        time.sleep(0.1)
    os.kill(pid, signal.SIGCONT)


def test_a_cluster_gives_what_one_process_gives(
    cluster: Cluster, server: CountingServer, expected: bytes, tmp_path: Path
) -> None:
    report = run(tmp_path, "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == expected
    assert report.num_done == NUM_ROWS
    assert max(server.by_row.values()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("strike", [kill_cell, kill_owner, remove_node, stop_cell])
def test_what_is_lost_costs_what_was_in_flight(
    cluster: Cluster, server: CountingServer, expected: bytes, tmp_path: Path, strike: Callable[[Cluster], None]
) -> None:
    run(tmp_path, "out.jsonl", when_all_wait(server, lambda: strike(cluster)))
    assert (tmp_path / "out.jsonl").read_bytes() == expected
    # A cell that was stopped goes on with the rows that it has until it finds its log closed.
    num_of_stopped = MIN_ROWS_AHEAD if strike is stop_cell else 0
    assert len(server.asked) <= NUM_ROWS + NUM_AT_ONCE + num_of_stopped


@pytest.mark.slow
@pytest.mark.parametrize("strike", [kill_cell, stop_cell])
def test_no_effect_happens_twice(
    cluster: Cluster, server: CountingServer, expected: bytes, tmp_path: Path, strike: Callable[[Cluster], None]
) -> None:
    """The rows fail of which nobody knows whether their effect has happened."""
    write_sending(tmp_path, server.origin, "POST", NUM_ROWS)
    report = run(tmp_path, "out.jsonl", when_all_wait(server, lambda: strike(cluster)))
    assert max(server.by_row.values()) == 1
    assert report.num_done + report.num_failed == NUM_ROWS
    assert 0 < report.num_failed <= NUM_AT_ONCE


@pytest.mark.slow
def test_the_command_goes_on_elsewhere_when_the_head_and_the_driver_are_lost(
    server: CountingServer, expected: bytes, tmp_path: Path
) -> None:
    """A cell of the first cluster may live, and works on until it finds its log closed."""
    command = ("run", "flow.yaml", "--on", "ray", "--cells", "2", "--state", f"file://{tmp_path}/state")
    place = ("--output", "out.jsonl", "--address")
    with ray_cluster(num_nodes=1) as first, ray_cluster(num_nodes=1) as second:
        server.shut_gate()
        driver = start_command(tmp_path, *command, *place, first.address)
        server.wait_for(NUM_AT_ONCE)
        kill_nodes([first.head_node])
        driver.kill()
        driver.communicate()
        server.open_gate()
        again = start_command(tmp_path, *command, *place, second.address)
        _, stderr = again.communicate(timeout=120)
        kill_nodes(first.worker_nodes)
    assert again.returncode == 0, stderr
    assert (tmp_path / "out.jsonl").read_bytes() == expected
    assert len(server.asked) <= NUM_ROWS + 2 * NUM_AT_ONCE


@pytest.mark.parametrize("num_lost", [1, 9])
def test_an_actor_that_is_lost_before_its_cell_begins_is_replaced(
    cluster: Cluster,
    server: CountingServer,
    expected: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    num_lost: int,
) -> None:
    """Its machine goes while the actor is on its way there."""
    marks = tmp_path / "marks"
    marks.mkdir()

    class Lost(CellActor):
        def __init__(self) -> None:
            super().__init__()
            for number in range(num_lost):
                with suppress(FileExistsError):
                    (marks / str(number)).touch(exist_ok=False)
                    os._exit(1)

    monkeypatch.setattr(cell_actor, "CellActor", Lost)
    monkeypatch.setattr(cell_actor, "RETRY_S", 0.0)
    if num_lost == 9:
        with pytest.raises(RunError, match="a cell could not be started: The actor died"):
            run(tmp_path, "out.jsonl", num_cells=1)
    else:
        run(tmp_path, "out.jsonl")
        assert (tmp_path / "out.jsonl").read_bytes() == expected


def test_other_versions_on_a_node_are_found_before_the_first_call(
    cluster: Cluster, server: CountingServer, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = replace(installed_here(), sundog="0.0.1")
    monkeypatch.setattr(cell_actor, "installed_here", lambda: here)
    with pytest.raises(ConfigError, match=r"a node of the cluster has sundog .*, this process sundog 0\.0\.1"):
        run(tmp_path, "out.jsonl")
    assert not server.asked


def test_a_flow_whose_folder_is_not_on_the_nodes_is_refused(
    cluster: Cluster, server: CountingServer, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_config(f"file://{tmp_path}/state-elsewhere")
    session = plan_session(load_plan(tmp_path / "flow.yaml", {}), tmp_path, config)
    with (
        work_on_ray(RayOptions(num_cells=1), config.state_dir, tmp_path / "nowhere") as work,
        session.open_run(RunOptions(config.state_dir), work) as opened,
        pytest.raises(ConfigError, match=r"has no folder .*nowhere, in which the flow's files lie"),
    ):
        asyncio.run(opened.execute())
    assert not server.asked
