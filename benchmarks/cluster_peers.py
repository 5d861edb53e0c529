"""Calls, processor time and what a lost node costs, beside Ray Data: `python benchmarks/cluster_peers.py [--turns 2]`.

One sundog process, sundog on Ray, Ray Data's `map_batches` with an actor that asks (without and with a memo of equal
calls), and ray.data.llm's HTTP stage: same rows, same server, same cluster, each run a process of its own, in turns.
Then the same with a node removed, and with the driver killed, once 40 % of the arm's calls have come. A run that fails
is repeated, as its user would. Results: results/cluster_peers.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clusters.cluster_runs import NUM_CELLS, start_run
from clusters.endpoint import Endpoint, counting_endpoint
from clusters.processes import measured
from clusters.ray_data import ARMS, BATCHES_OF_AN_ACTOR, HTTP_STAGE, NUM_ACTORS, NUM_BLOCKS, start_ray_data
from clusters.workload import write_workload
from machine import save

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the tests' cluster

from tests.ray.clusters import fill_up, ray_cluster

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

NUM_ROWS = 2_000
NUM_PLACES = 96
DELAY_S = 0.2
STRIKES_AT = 0.4
MOST_STARTS = 4
TIMEOUT_S = 900.0

ONE_PROCESS = "sundog, one process"
ON_RAY = "sundog --on ray"
NO_FAULT, NODE_REMOVED, DRIVER_KILLED = "none", "node removed", "driver killed, command repeated"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of an arm, until its result is complete."""

    arm: str
    fault: str
    turn: int
    num_calls: int
    num_distinct: int
    most_in_flight: int
    #: How many times the command was given.
    num_starts: int
    #: Rows that the result lacks or that differ from one sundog process's, and rows that it has more than once.
    num_wrong_rows: int
    num_doubled_rows: int
    #: Seconds, by kind of process; `wall` beside them.
    seconds: dict[str, float]
    #: The load of the machine when it began.
    load_1min: float


class Peers:
    """A cluster, a server and a folder that all arms use in turn."""

    def __init__(self, folder: Path, endpoint: Endpoint, cluster: Cluster) -> None:
        self.folder = folder
        self.endpoint = endpoint
        self.cluster = cluster
        self.expected: dict[int, dict[str, Any]] = {}
        #: The calls of an arm without a fault, in its latest run.
        self.calls_of: dict[str, int] = {}

    def run(self, arm: str, fault: str, turn: int) -> Run:
        for name in ("state", "cache", "checkpoint", "out"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / "out.jsonl").unlink(missing_ok=True)
        fill_up(self.cluster)
        self.endpoint.forget()
        load = round(os.getloadavg()[0], 2)
        with measured() as seconds:
            process, num_starts = self._start(arm), 1
            if fault != NO_FAULT:
                self._await_calls(process, round(STRIKES_AT * self.calls_of[arm]))
                self._strike(arm, fault, process)
            while not self._ends_well(process):
                assert num_starts < MOST_STARTS, f"{arm} has failed {num_starts} times"
                process, num_starts = self._start(arm), num_starts + 1
        counts = self.endpoint.counts()
        if fault == NO_FAULT:
            self.calls_of[arm] = counts.num_calls
        wrong, doubled = self._compare(arm)
        return Run(
            arm,
            fault,
            turn,
            counts.num_calls,
            counts.num_distinct,
            counts.most_in_flight,
            num_starts,
            wrong,
            doubled,
            seconds,
            load,
        )

    def _start(self, arm: str) -> subprocess.Popen[str]:
        if arm in ARMS:
            return start_ray_data(arm, self.folder, self.cluster.address, self.endpoint.origin, NUM_PLACES)
        return start_run(self.folder, f"file://{self.folder}/state", self.cluster.address if arm == ON_RAY else None)

    def _await_calls(self, process: subprocess.Popen[str], num_calls: int) -> None:
        while self.endpoint.counts().num_calls < num_calls:
            assert process.poll() is None, "it has ended before the fault"
            time.sleep(0.05)

    def _strike(self, arm: str, fault: str, process: subprocess.Popen[str]) -> None:
        """The machine of one process goes as its process does."""
        if fault == NODE_REMOVED and arm != ONE_PROCESS:
            self.cluster.remove_node(busiest_node(self.cluster), allow_graceful=False)
        else:
            process.kill()

    def _ends_well(self, process: subprocess.Popen[str]) -> bool:
        try:
            _, errors = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()  # nothing is left of it where it takes too long
        if process.returncode not in (0, -signal.SIGKILL):
            print(errors[-3000:], file=sys.stderr, flush=True)
        return process.returncode == 0

    def _compare(self, arm: str) -> tuple[int, int]:
        """Return the rows that are missing or wrong, and those that are there too often. The first run of one process
        is what the others are compared with."""
        files = sorted((self.folder / "out").glob("*.json")) if arm in ARMS else [self.folder / "out.jsonl"]
        rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        found = {int(row["id"]): {name: row[name] for name in ("topic", "triage")} for row in rows}
        self.expected = self.expected or found
        times = Counter(int(row["id"]) for row in rows)
        return (
            sum(found.get(number) != row for number, row in self.expected.items()),
            sum(number - 1 for number in times.values()),
        )


def busiest_node(cluster: Cluster) -> Any:
    """A node, not the head, with as many cells or actors that ask as any."""
    workers: Counter[int] = Counter()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().decode(errors="replace")
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:  # it has ended
                continue
            if command.startswith(("ray::CellActor", "ray::MapWorker")):
                workers[parent] += 1
    nodes = list(cluster.worker_nodes)
    random.shuffle(nodes)
    return max(nodes, key=lambda node: workers[node.all_processes["raylet"][0].process.pid])


def measure(peers: Peers, num_turns: int, result: str, num_calls: int) -> None:
    """All arms in turns, without a fault and with one, then each on Ray with its driver killed."""
    arms = (ONE_PROCESS, ON_RAY, *ARMS)
    plan = [
        (arm, fault, turn) for turn in range(1, num_turns + 1) for fault in (NO_FAULT, NODE_REMOVED) for arm in arms
    ]
    plan += [(arm, DRIVER_KILLED, 1) for arm in arms[1:]]
    runs: list[Run] = []
    for arm, fault, turn in plan:
        runs.append(peers.run(arm, fault, turn))
        print(runs[-1], flush=True)
        told = {
            "versions": {name: version(name) for name in ("ray", "aiohttp", "pandas")},
            "num_rows": NUM_ROWS,
            "num_different_calls": num_calls,
            "delay_s": DELAY_S,
            "num_places": NUM_PLACES,
            "num_cells": NUM_CELLS,
            "num_actors": {"map_batches": NUM_ACTORS, HTTP_STAGE: 3 * NUM_ACTORS},
            "num_blocks": NUM_BLOCKS,
            "batches_of_an_actor": BATCHES_OF_AN_ACTOR,
            "strikes_at": STRIKES_AT,
            "runs": [asdict(run) for run in runs],
        }
        save(result, told, is_shown=False)  # a benchmark that is stopped keeps what it has


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--result", default="cluster_peers")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="peers-"))
    try:
        with ray_cluster() as cluster, counting_endpoint(DELAY_S) as endpoint:
            num_calls = write_workload(folder, endpoint.origin, NUM_ROWS, num_places=NUM_PLACES)
            measure(Peers(folder, endpoint, cluster), arguments.turns, arguments.result, num_calls)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
