"""Ray clusters of this machine for tests: a head and nodes with few processors and little memory, quiet, and off the
network. Ray reads its environment as it is imported, so this module sets it and imports ray in its functions alone."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

NUM_NODES = 3
#: What each node has. Its workers share the memory of the machine; only the object store reserves some.
NODE: dict[str, Any] = {
    "num_cpus": 2,
    "num_gpus": 0,
    "object_store_memory": 80_000_000,
    "include_log_monitor": False,
}
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # whether the machine is full is no matter of a test
}


@contextmanager
def ray_cluster(num_nodes: int = NUM_NODES, *, takes_jobs: bool = False) -> Iterator[Cluster]:
    """Start a head and `num_nodes` nodes, 15 s on two cores; all of their processes end with the block. No driver is
    connected: `ray.init(cluster.address)` does that. `takes_jobs`: the head has a job server at `cluster.webui_url`,
    whose jobs run with the Python of this process."""
    os.environ.update(QUIET)
    from ray.cluster_utils import Cluster

    # Paths of sockets are short: pytest's folders are too deep.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    cluster: Any = Cluster()  # its methods have no types
    try:
        with _python_of_this_process():
            ports = {
                "dashboard_port": 0,
                "dashboard_agent_listen_port": 0,
            }  # other clusters of this machine have others
            cluster.add_node(**NODE, **ports, include_dashboard=takes_jobs, temp_dir=folder)
        # Jobs look here for their own cluster, and take any of this machine where nothing is.
        Path(folder, "ray_current_cluster").write_text(cluster.address)
        fill_up(cluster, num_nodes)
        yield cluster
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _python_of_this_process() -> Iterator[None]:
    """A job's `python` is the first one on the path of its head."""
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{path}"
    try:
        yield
    finally:
        os.environ["PATH"] = path


def fill_up(cluster: Cluster, num_nodes: int = NUM_NODES) -> None:
    """Add nodes in place of those that a test has removed."""
    missing = num_nodes - len(cluster.worker_nodes)
    for _ in range(missing):
        cluster.add_node(**NODE, wait=False)
    if missing:
        cluster.wait_for_nodes()


def processes_of(title: str) -> list[int]:
    """The processes of Ray with a title."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:  # it has ended
                continue
            if command.startswith(title):
                found.append(int(folder.name))
    return sorted(found)
