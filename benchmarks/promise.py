"""Does a plan of steps on workers keep what it promises, and how does it stand beside Halo's planner?

`python benchmarks/promise.py` plans the six published graphs on 2, 3, 4 and 8 workers with 50, 500 and 2,000 rows, and
100 random ones, runs each in virtual time, and simulates the plans of four baselines by Halo's rules. Nothing but the
processor seconds depends on the machine. Writes results/NAME.json and, with a line for each case, results/NAME.csv.

`--cases 'l*' --plans-only` plans graphs of 40, 100 and 300 LLM steps, on 4 and 8 workers.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from itertools import chain
from typing import Any

from machine import RESULTS, save
from placed.cases import Case, large_cases, published_cases, random_cases
from placed.counts import HEAD, counts, line
from placed.graphs import PLACES
from placed.measured import Measured, measure

SUBSETS = {
    "published": "w*",
    "random": "r*",
    "large": "l*",
    "published, 50 rows": "w*/50",
    "published, 500 rows": "w*/500",
    "published, 2000 rows": "w*/2000",
}


def main() -> None:
    given = _arguments()
    cases = list(_chosen(given))
    measured: list[Measured] = []
    print(HEAD)
    with ProcessPoolExecutor(given.jobs) as pool:
        for one in pool.map(partial(measure, is_run=not given.plans_only), cases):
            measured.append(one)
            print(line(one), flush=True)
    _write_rows(given.name, [one.to_row() for one in measured])
    subsets = {name: [one for one in measured if fnmatch(one.case, pattern)] for name, pattern in SUBSETS.items()}
    save(
        given.name,
        {
            "tool_places": given.places,
            "max_rows_in_flight": given.window,
            "target": "run within 10 % of the promise in 95 of 100; as run never more than 2 % slower than halo_dp, and"
            " within 3 % of the best of the others in 70 of 72",
            "counts": {name: counts(some) for name, some in subsets.items() if some},
        },
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=["w*", "r*"], help="w2/4/500, 'w1/*', 'r1?/*', 'l*'")
    parser.add_argument("--rows", type=int, help="other than the cases' own")
    parser.add_argument("--places", type=int, default=PLACES, help="of the database, and as many of the HTTP host")
    parser.add_argument("--window", type=int, help="rows in flight; the planner's choice without it")
    parser.add_argument("--plans-only", action="store_true", help="run nothing")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--name", default="promise", help="of the result files")
    return parser.parse_args()


def _chosen(given: argparse.Namespace) -> Iterator[Case]:
    names = set()
    for case in chain(published_cases(), random_cases(), large_cases()):
        if any(fnmatch(case.name, pattern) for pattern in given.cases):
            one = replace(case, tool_places=given.places, max_rows_in_flight=given.window)
            one = one if given.rows is None else replace(one, num_rows=given.rows)
            if one.name not in names:
                names.add(one.name)
                yield one


def _write_rows(name: str, rows: Sequence[dict[str, Any]]) -> None:
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
