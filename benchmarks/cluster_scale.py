"""Rows on a cluster beside one process, without a fault: `python benchmarks/cluster_scale.py [--rows N] [--turns N]`.

Three steps with Zipf repetition, a server that counts every request, real Ray on this machine. The outputs have to be
equal, byte for byte, and each different call has to be made once. All arms keep their state at a URL:

- `one`: one process with all places of the engine;
- `apart`: as many processes as cells, each with its share of the rows and places, which know nothing of one another.
  The cost of a cluster cannot be less than theirs: a process with fewer calls in flight does less at each wake-up;
- `cluster`: cells with the same shares of the places;
- `cluster, places each`: cells of which each has as many places as the one process.

Results: results/cluster_scale.json.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clusters.cluster_runs import NUM_CELLS, report_of, start_run
from clusters.endpoint import Endpoint, counting_endpoint
from clusters.processes import measured
from clusters.workload import split_workload, write_workload
from machine import save

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the tests' cluster

from tests.ray.clusters import ray_cluster

NUM_PLACES = 192
DELAY_S = 0.05
OF_SUNDOG = ("driver", "cells", "owners")


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to run the rows."""

    name: str
    num_places: int
    is_cluster: bool = False
    is_apart: bool = False


ARMS = (
    Arm("one", NUM_PLACES),
    Arm("apart", NUM_PLACES, is_apart=True),
    Arm("cluster", NUM_PLACES, is_cluster=True),
    Arm("cluster, places each", NUM_CELLS * NUM_PLACES, is_cluster=True),
)


def run_arm(folder: Path, arm: Arm, num_rows: int, endpoint: Endpoint, address: str) -> dict[str, Any]:
    """Run the workload once, and tell what it took."""
    write_workload(folder, endpoint.origin, num_rows, num_places=arm.num_places)
    parts = split_workload(folder, NUM_CELLS) if arm.is_apart else [folder]
    endpoint.forget()
    with measured() as took:
        runs = [start_run(part, f"file://{part}/state", address if arm.is_cluster else None) for part in parts]
        reports = [report_of(run, 1800.0) for run in runs]
    counts = endpoint.counts()
    used = sum(seconds for kind, seconds in took.items() if kind in OF_SUNDOG)
    return {
        "arm": arm.name,
        "num_calls": counts.num_calls,
        "num_repeated": counts.num_calls - counts.num_distinct,
        "num_rows": sum(report["num_done"] for report in reports),
        "most_in_flight": counts.most_in_flight,
        "processor_s": took,
        "processor_ms_of_a_call": round(1000 * used / counts.num_calls, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--result", default="cluster_scale")
    arguments = parser.parse_args()
    results, outputs = [], set()
    with ray_cluster() as cluster, counting_endpoint(DELAY_S) as endpoint:
        for _ in range(arguments.turns):
            for arm in ARMS:
                with tempfile.TemporaryDirectory(prefix="scale-") as folder:
                    results.append(run_arm(Path(folder), arm, arguments.rows, endpoint, cluster.address))
                    if not arm.is_apart:
                        outputs.add((Path(folder) / "out.jsonl").read_bytes())
                print(results[-1], flush=True)
    told = {"num_rows": arguments.rows, "num_cells": NUM_CELLS, "arms": results}
    save(arguments.result, {**told, "outputs_are_equal": len(outputs) == 1})


if __name__ == "__main__":
    main()
