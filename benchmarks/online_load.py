"""How many requests a second do Halo's online modes, plain asyncio, LangGraph and sundog sustain, and how long do they
take?

`python benchmarks/online_load.py` simulates the six published graphs under open loops, evenly spaced and Poisson, with
queries that repeat and without, in virtual time on modelled engines. Writes results/NAME.json. Nothing in it depends on
the machine. It takes an hour of processor time; results are written after each case. `--quick` takes seconds and writes
nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from fnmatch import fnmatch
from typing import Any

from machine import save
from online.arms import COMPARED, WHAT_IFS
from online.figures import Effort, OnlineCase, measured, ratios
from online.load import NUM_QUERIES, SPACINGS
from online.ours import POLICY
from online.workload import UNLIMITED_PLACES, Machines
from placed.graphs import published_graphs

QUICK = Effort(duration_s=120.0, tolerance=1.5, most_times=1.5, shares=(0.75,), arms=tuple(COMPARED))
TARGETS = "with repetition: over_best_published 2.6, over_asyncio 4.7, p95 over_least 0.5; without: over_best 0.97"


def main() -> None:
    given = _arguments()
    found = []
    with ProcessPoolExecutor(given.jobs) as pool:
        for one in pool.map(measured, _cases(given)):
            found.append(one | {"ratios": ratios(one)})
            print(_line(found[-1]), flush=True)
            if not given.quick:
                _save(given, found)


def _save(given: argparse.Namespace, found: list[dict[str, Any]]) -> None:
    """Write the cases so far: a run of hours may be stopped."""
    names = ("workloads", "seed", "places", "spacings", "repetitions", "what_ifs")
    settings = {name: getattr(given, name) for name in names} | {"policy": POLICY, "num_queries": NUM_QUERIES}
    result = {"targets": TARGETS, "settings": settings, "cases": found}
    save(given.name, result, is_shown=False)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", default="w*", help="a pattern: w1, 'w[12]'")
    parser.add_argument("--spacings", nargs="*", default=list(SPACINGS), choices=SPACINGS)
    parser.add_argument("--repetitions", nargs="*", default=["halo", "none"], choices=list(NUM_QUERIES))
    parser.add_argument("--places", type=int, default=UNLIMITED_PLACES, help="of all SQL steps, and of all HTTP steps")
    parser.add_argument("--what-ifs", nargs="*", default=["windows_merging"], choices=list(WHAT_IFS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="120 s and one load, coarse rates")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--name", default="online", help="of the result file")
    return parser.parse_args()


def _cases(given: argparse.Namespace) -> Iterator[OnlineCase]:
    for name, graph in published_graphs().items():
        for repetition in given.repetitions:
            for spacing in given.spacings:
                if fnmatch(name, given.workloads):
                    effort = QUICK if given.quick else Effort(arms=(*COMPARED, *given.what_ifs))
                    yield OnlineCase(graph, spacing, repetition, Machines(given.places), effort, given.seed)


def _line(one: dict[str, Any]) -> str:
    rates = " ".join(f"{arm} {rate:.2f}" for arm, rate in one["sustained_per_s"].items())
    return f"{one['case']:<16} {rates}; " + ", ".join(f"{name} {value}" for name, value in one["ratios"].items())


if __name__ == "__main__":
    main()
