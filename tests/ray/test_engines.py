"""Servers that a run starts on its cluster: what comes out, what replaces one that dies, and that none is left."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from sundog.config import read_config
from sundog.errors import EngineUnavailable
from sundog.ray.on_ray import work_on_ray
from sundog.ray.options import RayOptions
from sundog.runtime.figures.report import Report
from sundog.runtime.run_options import RunOptions
from sundog.servers.replica_watch import ReplicaLeaving, ReplicaVanished
from sundog.session.flow_file import load_plan
from sundog.session.session import plan_session
from tests.engines.fake_vllm import flow_text
from tests.ray.clusters import NUM_NODES
from tests.waiting import until

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytestmark = pytest.mark.ray
pytest.importorskip("ray", reason="ray is not installed: pip install 'sundog[ray]'")

NUM_ROWS = 40


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A flow whose engine is a pool of the cluster, with servers that answer as vLLM's do."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_flow(tmp_path, least=1, most=2)
    rows = "".join(json.dumps({"id": number}) + "\n" for number in range(NUM_ROWS))
    (tmp_path / "rows.jsonl").write_text(rows)
    return tmp_path


def write_flow(folder: Path, **bounds: int) -> None:
    pool = {"ray": {"min": bounds["least"], "max": bounds["most"], "gpus": 0, "cpus": 0.5}, "max_empty_s": 60}
    (folder / "flow.yaml").write_text(flow_text(folder, max_concurrency=4, pool=pool))


def run(folder: Path, finish_in_s: float | None = 3600.0) -> Report:
    config = read_config(f"file://{folder}/state")
    session = plan_session(load_plan(folder / "flow.yaml", {}), folder, config)
    ray_options = RayOptions(num_cells=2, finish_in_s=finish_in_s)
    with (
        work_on_ray(ray_options, config.state_dir, folder) as work,
        session.open_run(RunOptions(config.state_dir, {"": folder / "out.jsonl"}), work) as opened,
    ):
        return asyncio.run(opened.execute())


def servers_of(folder: Path) -> list[int]:
    """The processes of the fake servers of a folder."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:  # it has ended
                continue
            if str(folder / "python-with-vllm").encode() in words[:2]:
                found.append(int(process.name))
    return found


def num_starts(folder: Path) -> int:
    starts = folder / "starts"
    return len(starts.read_text().splitlines()) if starts.exists() else 0


def expected() -> bytes:
    return b"".join(b'{"id":%d,"said":"ROW %d"}\n' % (number, number) for number in range(NUM_ROWS))


def test_a_run_starts_the_servers_that_it_needs_and_leaves_none(cluster: Cluster, folder: Path) -> None:
    assert run(folder).num_done == NUM_ROWS
    assert (folder / "out.jsonl").read_bytes() == expected()
    assert len((folder / "asked").read_text().splitlines()) == NUM_ROWS, "no call was made twice"
    assert num_starts(folder) == 1, "one is enough for an end in an hour"
    assert servers_of(folder) == [], "they have ended before the run has"


def test_a_server_that_dies_is_replaced(cluster: Cluster, folder: Path) -> None:
    (folder / "dies").touch()
    assert run(folder).num_done == NUM_ROWS
    assert (folder / "out.jsonl").read_bytes() == expected()
    assert num_starts(folder) == 2
    assert servers_of(folder) == []


def test_a_server_that_does_not_start_ends_the_run_with_its_last_words(cluster: Cluster, folder: Path) -> None:
    (folder / "refuses").touch()
    with pytest.raises(EngineUnavailable, match="has ended before it was ready, with exit code 1") as failed:
        run(folder)
    assert "no memory left" in str(failed.value.hint)
    assert servers_of(folder) == []


def test_a_driver_that_is_killed_leaves_no_server(cluster: Cluster, folder: Path) -> None:
    """Also where the server does not heed SIGTERM and has a child."""
    (folder / "is-stubborn").touch()
    place = ("--on", "ray", "--address", cluster.address, "--cells", "1", "--state", f"file://{folder}/state")
    words = [sys.executable, "-m", "sundog", "run", "flow.yaml", "--output", "out.jsonl", *place]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        try:
            until(lambda: servers_of(folder))
        finally:
            os.kill(driver.pid, signal.SIGKILL)
    until(lambda: not servers_of(folder), within_s=40.0)


def drain(node_id: str) -> None:
    """Do what a notice of a cloud leads to."""
    from ray._private import worker
    from ray.core.generated import autoscaler_pb2

    reasons, client = cast(Any, autoscaler_pb2).DrainNodeReason, cast(Any, worker.global_worker).gcs_client
    until_ms = int(time.time() * 1000) + 600_000
    is_accepted, _ = client.drain_node(node_id, reasons.Value("DRAIN_NODE_REASON_PREEMPTION"), "spot", until_ms)
    assert is_accepted, "there is such a node"


def test_servers_leave_a_machine_that_will_be_taken_away_and_vanish_with_one_that_is_lost(
    cluster: Cluster, folder: Path
) -> None:
    from sundog.ray.engines import RayEngines  # which imports ray

    plan = plan_session(load_plan(folder / "flow.yaml", {}), folder, read_config(str(folder / "own"))).plan
    (block,) = plan.logical.engines
    block = replace(
        block, options={**block.options, "replicas": 9, "pool": {"ray": {"max": 9, "gpus": 0, "cpus": 1.5}}}
    )
    doomed, lost = list(cluster.worker_nodes)[:2]

    async def main() -> None:
        engines = RayEngines(block, {})
        news = engines.watch()
        engines.want(NUM_NODES + 1)
        found = {(await anext(news)).base_url for _ in range(NUM_NODES + 1)}
        drain(doomed.node_id)
        leaving = await anext(news)
        assert isinstance(leaving, ReplicaLeaving)
        assert leaving.base_url in found
        engines.end(leaving.base_url)
        assert await anext(news) == ReplicaVanished(leaving.base_url)
        await asyncio.to_thread(cluster.remove_node, lost, allow_graceful=False)
        gone = await anext(news)
        assert isinstance(gone, ReplicaVanished)
        assert gone.base_url in found - {leaving.base_url}
        await engines.close()
        await news.aclose()

    try:
        asyncio.run(asyncio.wait_for(main(), 240))
    finally:
        cluster.remove_node(doomed)
    until(lambda: not servers_of(folder))
