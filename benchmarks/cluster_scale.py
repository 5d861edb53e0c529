"""Rows on a cluster beside one process, without a fault: `python benchmarks/cluster_scale.py [--rows N] [--turns N]`.

Three steps with Zipf repetition, a server that counts every request, real Ray on this machine. The outputs have to be
equal, byte for byte, and each different call has to be made once. Both arms keep their state at a URL. Results:
results/cluster_scale.json.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from clusters.cluster_runs import NUM_CELLS, report_of, start_run
from clusters.endpoint import Endpoint, counting_endpoint
from clusters.processes import measured
from clusters.workload import write_workload
from machine import save

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the tests' cluster

from tests.ray.clusters import ray_cluster

NUM_PLACES = 192
DELAY_S = 0.05
OF_SUNDOG = ("driver", "cells", "owners")


def run_arm(folder: Path, arm: str, endpoint: Endpoint, address: str | None) -> dict[str, Any]:
    """Run the workload once, and tell what it took."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    endpoint.forget()
    with measured() as took:
        report = report_of(start_run(folder, f"file://{folder}/state-{arm}", address), 1800.0)
    counts = endpoint.counts()
    used = sum(seconds for kind, seconds in took.items() if kind in OF_SUNDOG)
    return {
        "arm": arm,
        "num_calls": counts.num_calls,
        "num_repeated": counts.num_calls - counts.num_distinct,
        "num_rows": report["num_done"],
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
    folder = Path(tempfile.mkdtemp(prefix="scale-"))
    results, outputs = [], set()
    try:
        with ray_cluster() as cluster, counting_endpoint(DELAY_S) as endpoint:
            num_calls = write_workload(folder, endpoint.origin, arguments.rows, num_places=NUM_PLACES)
            for turn in range(arguments.turns):
                for arm, address in (("one", None), ("cluster", cluster.address)):
                    results.append(run_arm(folder, f"{arm}-{turn}", endpoint, address))
                    outputs.add((folder / "out.jsonl").read_bytes())
                    print(results[-1], flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    told = {"num_rows": arguments.rows, "num_different_calls": num_calls, "num_cells": NUM_CELLS, "arms": results}
    save(arguments.result, {**told, "outputs_are_equal": len(outputs) == 1})


if __name__ == "__main__":
    main()
