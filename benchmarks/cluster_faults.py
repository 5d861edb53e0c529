"""Faults in parts of a cluster, and what is lost by them: `python benchmarks/cluster_faults.py [--times 20] [FAULT]`.

Faults come at random moments. Real Ray on this machine, a head and three nodes that are processes, and a server that
counts every request. Each trial
compares the output, byte for byte, with that of one process. Results: results/cluster_faults.json.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusters.cluster_runs import NUM_CELLS, report_of, start_run
from clusters.endpoint import Endpoint, counting_endpoint
from clusters.workload import write_workload
from machine import save

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the tests' cluster

from tests.ray.clusters import fill_up, processes_of, ray_cluster

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

NUM_ROWS = 2_000
NUM_PLACES = 96
DELAY_S = 0.2
STOPPED_S = 9.0
"""A cell that is stopped for so long is replaced after 5 s, and goes on beside the new one."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One run with one fault."""

    fault: str
    #: The share of the calls that had come when it struck.
    at: float
    is_equal: bool
    num_repeated: int
    most_of_one_effect: int
    num_failed_rows: int
    #: The longest time in which the server heard of nobody, from the fault to the last call.
    longest_gap_s: float
    wall_s: float


class Scene:
    """A cluster, a server and a folder, in which a trial happens."""

    def __init__(self, folder: Path, endpoint: Endpoint, cluster: Cluster) -> None:
        self.folder = folder
        self.endpoint = endpoint
        self.cluster = cluster
        self.process: subprocess.Popen[str] | None = None

    @property
    def state(self) -> str:
        return f"file://{self.folder}/state"

    def start(self) -> None:
        self.process = start_run(self.folder, self.state, self.cluster.address)

    def kill_driver(self) -> None:
        assert self.process is not None, "it was started"
        self.process.kill()
        self.process.communicate()
        self.start()


def kill_one(title: str) -> Callable[[Scene], None]:
    return lambda scene: os.kill(random.choice(processes_of(title)), signal.SIGKILL)


def stop_cell(scene: Scene) -> None:
    pid = random.choice(processes_of("ray::CellActor"))
    os.kill(pid, signal.SIGSTOP)
    time.sleep(STOPPED_S)
    os.kill(pid, signal.SIGCONT)


def remove_node(scene: Scene) -> None:
    """Remove a node on which the driver is not: with its own machine a driver ends too, which a process here does
    not."""
    of_driver = {_parent(pid) for pid in processes_of("ray::OwnerActor")}
    others = [node for node in scene.cluster.worker_nodes if _raylet(node) not in of_driver]
    scene.cluster.remove_node(random.choice(others), allow_graceful=False)


def _raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


FAULTS: dict[str, Callable[[Scene], None]] = {
    "none": lambda scene: None,
    "cell killed": kill_one("ray::CellActor"),
    "owner killed": kill_one("ray::OwnerActor"),
    "node removed": remove_node,
    "cell stopped, replaced, continued": stop_cell,
    "driver killed, command repeated": Scene.kill_driver,
}


@contextmanager
def scenes() -> Iterator[Scene]:
    with ray_cluster() as cluster, counting_endpoint(DELAY_S) as endpoint:
        folder = Path(tempfile.mkdtemp(prefix="faults-"))
        try:
            yield Scene(folder, endpoint, cluster)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def run_trial(scene: Scene, fault: str, expected: bytes, num_calls: int) -> Trial:
    shutil.rmtree(scene.folder / "state", ignore_errors=True)
    shutil.rmtree(scene.folder / "cache", ignore_errors=True)
    (scene.folder / "out.jsonl").unlink(missing_ok=True)
    fill_up(scene.cluster)
    scene.endpoint.forget()
    at, begin_s = random.uniform(0.05, 0.8), time.monotonic()
    scene.start()
    while scene.endpoint.counts().num_calls < at * num_calls:
        time.sleep(0.02)
    scene.endpoint.watch_gaps()
    FAULTS[fault](scene)
    assert scene.process is not None, "it was started"
    report, counts = report_of(scene.process), scene.endpoint.counts()
    return Trial(
        fault,
        round(at, 2),
        (scene.folder / "out.jsonl").read_bytes() == expected,
        counts.num_calls - counts.num_distinct,
        counts.most_of_one_effect,
        report["num_failed"],
        round(counts.longest_gap_s, 2),
        round(time.monotonic() - begin_s, 1),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", default=list(FAULTS))
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--effects", action="store_true", help="Each row also has an effect.")
    parser.add_argument("--result", default="cluster_faults")
    arguments = parser.parse_args()
    trials: list[Trial] = []
    with scenes() as scene:
        num_calls = write_workload(
            scene.folder, scene.endpoint.origin, NUM_ROWS, num_places=NUM_PLACES, has_effect=arguments.effects
        )
        report_of(start_run(scene.folder, scene.state))
        expected = (scene.folder / "out.jsonl").read_bytes()
        # In turns, so that a busy hour of the machine meets all of them.
        for _ in range(arguments.times):
            for fault in arguments.faults:
                trials.append(run_trial(scene, fault, expected, num_calls))
                print(trials[-1], flush=True)
            told = {
                "num_rows": NUM_ROWS,
                "num_calls": num_calls,
                "num_cells": NUM_CELLS,
                "places_of_a_cell": NUM_PLACES // NUM_CELLS,
                "trials": [asdict(trial) for trial in trials],
            }
            save(arguments.result, told, is_shown=False)


if __name__ == "__main__":
    main()
