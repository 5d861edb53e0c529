"""Faults in parts of a cluster, and what is lost by them: `python benchmarks/cluster_faults.py [--times 20] [FAULT]`.

Faults come at random moments. Real Ray on this machine, a head and three nodes that are processes, a server that counts
every request, and for faults of the log an S3 server that refuses or waits. Each trial compares the output, byte for
byte, with that of one process. Results: results/cluster_faults.json, after each trial; `--append` keeps those that are
there, so that it can be done in parts.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the tests' cluster

from clusters.cluster_runs import NUM_CELLS, report_of, start_run
from clusters.scenes import CommandFailed, Scene, scenes
from clusters.strikes import LONG, STRIKES
from clusters.workload import write_workload
from machine import RESULTS, save

from tests.ray.clusters import fill_up

NUM_ROWS = 2_000
NUM_PLACES = 96
DELAY_S = 0.2


@dataclass(frozen=True, slots=True)
class Trial:
    """One run with one fault."""

    fault: str
    has_effects: bool
    #: The share of the calls that had come when it struck.
    at: float
    #: The output is that of one process, byte for byte, but for rows that failed.
    is_equal: bool
    num_repeated: int
    most_of_one_effect: int
    num_failed_rows: int
    #: The longest time in which the server heard of nobody, from the fault to the last call, without that of a restart.
    longest_gap_s: float
    #: From a repeated command to its first call.
    to_first_call_s: float
    num_repeats: int
    #: The writes that the storage has refused or delayed.
    num_struck_writes: int
    wall_s: float
    #: The reason why the trial came to no output; empty where it did.
    failure: str = ""


def run_trial(scene: Scene, fault: str, expected: bytes, num_calls: int, *, has_effects: bool) -> Trial:
    strike = (STRIKES | LONG)[fault]
    scene.begin(strike.state)
    fill_up(scene.cluster)
    scene.endpoint.forget()
    at, begin_s, failure, num_failed = random.uniform(0.05, 0.8), time.monotonic(), "", 0
    scene.start()
    try:
        _wait_for_calls(scene, at * num_calls)
        scene.endpoint.watch_gaps()
        strike.do(scene)
        report = scene.report or scene.wait()
        if report is None:
            raise CommandFailed("the command ended with an error and was not repeated")
        num_failed = report["num_failed"]
    except CommandFailed as error:
        failure = str(error)
    counts, out = scene.endpoint.counts(), scene.folder / "out.jsonl"
    return Trial(
        fault,
        has_effects,
        round(at, 2),
        out.exists() and _is_equal(out.read_bytes(), expected, num_failed),
        counts.num_calls - counts.num_distinct,
        counts.most_of_one_effect,
        num_failed,
        round(max(scene.gap_before_s, counts.longest_gap_s), 2),
        round(scene.to_first_call_s, 2),
        scene.repeats,
        scene.storage.num_struck,
        round(time.monotonic() - begin_s, 1),
        failure,
    )


def _is_equal(output: bytes, expected: bytes, num_failed: int) -> bool:
    left = iter(expected.splitlines())
    lines = output.splitlines()
    return len(lines) == NUM_ROWS - num_failed and all(line in left for line in lines)


def _wait_for_calls(scene: Scene, number: float) -> None:
    while scene.endpoint.counts().num_calls < number:
        if scene.process.poll() is not None:
            scene.wait()
            raise CommandFailed("the command ended before the fault")
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", default=list(STRIKES), help=f"of {[*STRIKES, *LONG]}")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--effects", action="store_true", help="Each row also has an effect.")
    parser.add_argument("--result", default="cluster_faults")
    parser.add_argument("--append", action="store_true", help="Keep the trials that the result has already.")
    arguments = parser.parse_args()
    trials = _kept(arguments.result) if arguments.append else []
    with scenes(DELAY_S) as scene:
        num_calls = write_workload(
            scene.folder, scene.endpoint.origin, NUM_ROWS, num_places=NUM_PLACES, has_effect=arguments.effects
        )
        report_of(start_run(scene.folder, scene.state))
        expected = (scene.folder / "out.jsonl").read_bytes()
        scene.new_cluster()
        # In turns, so that a busy hour of the machine meets all of them.
        for _ in range(arguments.times):
            for fault in arguments.faults:
                trial = run_trial(scene, fault, expected, num_calls, has_effects=arguments.effects)
                print(trial, flush=True)
                trials.append(asdict(trial))
                save(arguments.result, _told(trials, num_calls), is_shown=False)
                if (STRIKES | LONG)[fault].takes_cluster or trial.failure:
                    scene.clear()
                    scene.new_cluster()


def _kept(result: str) -> list[dict[str, Any]]:
    file = RESULTS / f"{result}.json"
    kept: list[dict[str, Any]] = json.loads(file.read_text())["trials"] if file.exists() else []
    return kept


def _told(trials: list[dict[str, Any]], num_calls: int) -> dict[str, Any]:
    return {
        "num_rows": NUM_ROWS,
        "num_calls": num_calls,
        "num_cells": NUM_CELLS,
        "places_of_a_cell": NUM_PLACES // NUM_CELLS,
        "trials": trials,
    }


if __name__ == "__main__":
    main()
