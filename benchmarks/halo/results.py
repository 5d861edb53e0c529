"""Result files: one for each arm, case and repetition, so that a run can be continued and anyone can count again.

Owns their place, their form and how the medians and ratios are taken. Never measures.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import median
from typing import Any

from halo.inputs import EARLY
from halo.workloads.catalog import WORKLOADS, Workload

Result = dict[str, Any]


def result_path(folder: Path, slug: str, arm: str, repeat: int) -> Path:
    return folder / slug / f"{arm}-{repeat}.json"


def write_result(path: Path, result: Result) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result, indent=1) + "\n")
    part.replace(path)


def read_results(folder: Path) -> list[Result]:
    return [json.loads(path.read_bytes()) for path in sorted(folder.glob("*/*.json"))]


@dataclass(frozen=True, slots=True)
class ArmResults:
    """One arm on one case; `runs` by repetition. A run that failed has an `error` and no times."""

    arm: str
    runs: dict[int, Result]

    @property
    def times_s(self) -> dict[int, float]:
        return {repeat: run["wall_s"] for repeat, run in self.runs.items() if "error" not in run}

    def middle(self, key: str) -> float | None:
        """The median of a number over the repetitions; None where no run has it."""
        found = [run[key] for run in self.runs.values() if run.get(key) is not None]
        return median(found) if found else None

    @property
    def planning_share(self) -> float | None:
        """The share of planning in the arm's time; None for an arm that plans nothing."""
        planning_s, wall_s = self.middle("planning_s"), self.middle("wall_s")
        return None if planning_s is None or not wall_s else planning_s / wall_s

    @property
    def hit_rate(self) -> float | None:
        """The share of the prompt tokens that engines found in their prefix caches."""
        prompt, computed = self.middle("num_prompt_tokens"), self.middle("num_computed_prompt_tokens")
        return None if not prompt or computed is None else 1 - computed / prompt

    def ratio_to(self, other: ArmResults) -> float | None:
        """Return the other's time as a multiple of this arm's: the median of the ratios of each repetition's pair."""
        mine, theirs = self.times_s, other.times_s
        pairs = [theirs[repeat] / mine[repeat] for repeat in mine.keys() & theirs.keys()]
        return median(pairs) if pairs else None


@dataclass(frozen=True, slots=True)
class CaseResults:
    """All arms of one case. `case`: as it was run."""

    slug: str
    case: dict[str, Any]
    arms: dict[str, ArmResults]

    @property
    def workload(self) -> Workload:
        return WORKLOADS[self.case["workload"]]

    @property
    def label(self) -> str:
        """The workload as a table calls it, whose title tells the earlier graphs."""
        return self.workload.name.removeprefix(EARLY).upper()

    @property
    def batch(self) -> dict[str, Any] | None:
        """The make-up of the batch, as plain asyncio met it."""
        runs = self.arms["asyncio"].runs.values() if "asyncio" in self.arms else ()
        return next((run["batch"] for run in runs if "batch" in run), None)

    def achieved(self, arm: str) -> float | None:
        """The work bound over the arm's time; None without a calibrated profile. The bound is of the same repetition:
        answers, and with them the work, differ a little. It is that of the careful arm, which makes each distinct call
        once; where equal calls got different answers, plain asyncio had more to do."""
        bounds = next((self.arms[name].runs for name in ("careful", "asyncio") if name in self.arms), {})
        found = [
            bounds[repeat]["bound_s"] / time_s
            for repeat, time_s in self.arms[arm].times_s.items()
            if bounds.get(repeat, {}).get("bound_s") is not None
        ]
        return median(found) if found else None

    def share_equal(self, arm: str) -> float | None:
        """The share of rows whose answer is that of plain asyncio in the same repetition."""
        others = self.arms["asyncio"].runs if "asyncio" in self.arms else {}
        found = [
            sum(one == two for one, two in zip(run["answers"], others[repeat]["answers"], strict=True))
            / len(run["answers"])
            for repeat, run in self.arms[arm].runs.items()
            if "answers" in run and "answers" in others.get(repeat, {})
        ]
        return median(found) if found else None


def group(results: Iterable[Result]) -> list[CaseResults]:
    """The cases in the order of their names."""
    runs: dict[str, dict[str, dict[int, Result]]] = defaultdict(lambda: defaultdict(dict))
    cases: dict[str, dict[str, Any]] = {}
    for result in results:
        cases[result["slug"]] = result["case"]
        runs[result["slug"]][result["arm"]][result["repeat"]] = result
    return [
        CaseResults(slug, cases[slug], {arm: ArmResults(arm, found) for arm, found in arms.items()})
        for slug, arms in sorted(runs.items())
    ]


def geometric_mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return prod(found) ** (1 / len(found)) if found else None
