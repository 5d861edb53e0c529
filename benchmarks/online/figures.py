"""The figures of one case: the largest rate that each arm sustains, and latencies below it.

Owns how the rate is looked for, and which loads are measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, sqrt
from typing import Any

from placed.graphs import Graph

from online.answered import Answered, ended_per_s, is_sustained, peak_per_s, percentile
from online.arms import ARMS, COMPARED, OURS, PUBLISHED, Arm
from online.load import DURATION_S, Load, Spacing
from online.workload import Machines, most_per_s, path_s

EIGHT_WORKERS = Machines()
SHARES = (0.25, 0.5, 0.75, 0.9)
PERCENTILES = (0.5, 0.95, 0.99)
NEAR = 1.1
"""Beyond that multiple of what eight busy workers can do, only an arm that makes fewer calls can be."""
LEAST_SHARE = 0.01
"""Lower rates, as a share of what eight busy workers can do, count as none."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is simulated. `tolerance`: of the rates that are looked for, as a factor. `most_times`: with repetition
    no higher rate is tried than so many times that of busy workers, without it no more than twice; an arm that sustains
    it sustains at least that."""

    duration_s: float = DURATION_S
    tolerance: float = 1.02
    most_times: float = 5.0
    shares: tuple[float, ...] = SHARES
    arms: tuple[str, ...] = tuple(ARMS)


@dataclass(frozen=True, slots=True)
class OnlineCase:
    """One workload under one kind of load."""

    graph: Graph
    spacing: Spacing
    repetition: str
    machines: Machines = EIGHT_WORKERS
    effort: Effort = Effort()
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.graph.name}/{self.spacing}/{self.repetition}"

    @property
    def arms(self) -> dict[str, Arm]:
        return {name: ARMS[name] for name in self.effort.arms}

    def load(self, rate_per_s: float, *, is_ramp: bool = False) -> Load:
        """Return the load of that rate, the same for all arms."""
        return Load(self.spacing, rate_per_s, self.repetition, is_ramp, self.effort.duration_s, self.seed)

    @property
    def most_per_s(self) -> float:
        """The highest rate that is tried, and the one with which the ramp ends."""
        times = 2.0 if self.repetition == "none" else self.effort.most_times
        return times * most_per_s(self.graph, self.machines)


def measured(case: OnlineCase) -> dict[str, Any]:
    """Return all figures of a case."""
    arms = case.arms
    sustained = {name: sustained_per_s(case, arm) for name, arm in arms.items()}
    loads = {"best_published": max(sustained[name] for name in PUBLISHED), OURS: sustained[OURS]}
    return {
        "case": case.name,
        "busy_workers_per_s": round(most_per_s(case.graph, case.machines), 3),
        "path_s": round(path_s(case.graph), 3),
        "most_tried_per_s": round(case.most_per_s, 3),
        "sustained_per_s": {name: round(rate, 3) for name, rate in sustained.items()},
        "ramp_peak_per_s": {name: round(_ramp_peak(case, arm), 3) for name, arm in arms.items()},
        "fixed": [
            {"of": of, "share": share, "rate_per_s": round(share * rate, 3), "arms": _at(case, share * rate)}
            for of, rate in loads.items()
            for share in case.effort.shares
            if rate
        ],
    }


def sustained_per_s(case: OnlineCase, arm: Arm) -> float:
    """Return the largest rate whose load the arm sustains, within the tolerance."""
    busy = most_per_s(case.graph, case.machines)
    low, high = LEAST_SHARE * busy, NEAR * busy
    if _sustains(case, arm, high):
        low, high = high, case.most_per_s
        if _sustains(case, arm, high):
            return high
    elif not _sustains(case, arm, low):
        return 0.0
    while high / low > case.effort.tolerance:
        middle = sqrt(low * high)
        if _sustains(case, arm, middle):
            low = middle
        else:
            high = middle
    return low


def _sustains(case: OnlineCase, arm: Arm, rate_per_s: float) -> bool:
    duration_s = case.effort.duration_s
    answered = arm(case.graph, case.machines).run(case.load(rate_per_s).asked(), duration_s)
    return is_sustained(answered, duration_s)


def _ramp_peak(case: OnlineCase, arm: Arm) -> float:
    asked = case.load(case.most_per_s, is_ramp=True).asked()
    return peak_per_s(arm(case.graph, case.machines).run(asked, case.effort.duration_s))


def _at(case: OnlineCase, rate_per_s: float) -> dict[str, Mapping[str, float | None]]:
    """Return the figures of each arm at a fixed load."""
    asked, duration_s = case.load(rate_per_s).asked(), case.effort.duration_s
    return {
        name: dict(_latencies(arm(case.graph, case.machines).run(asked, 2 * duration_s), duration_s))
        for name, arm in case.arms.items()
    }


def _latencies(answered: Sequence[Answered], duration_s: float) -> Iterator[tuple[str, float | None]]:
    """Yield the rate of ends in the second half, and percentiles of latency: of all requests, and of those that come in
    the second half, when most queries have been answered before. None for one that has not ended as long again after
    the last request."""
    yield "ended_per_s", round(ended_per_s(answered, duration_s / 2, duration_s), 3)
    late = [one for one in answered if one.time_s >= duration_s / 2]
    for kind, some in (("", answered), ("late_", late)):
        for share in PERCENTILES:
            value = percentile([one.latency_s for one in some], share)
            yield f"p{share * 100:.0f}_{kind}s", round(value, 3) if isfinite(value) else None


def ratios(one: Mapping[str, Any]) -> dict[str, float | None]:
    """Return what is aimed at, of the figures of a case: sundog's rate over that of the best published arm, of asyncio
    and of the best of all; and at 0.75 of the best published arm's rate its p95 over the least of any other arm's, of
    all requests and of the late ones."""
    rates = one["sustained_per_s"]
    others = [name for name in COMPARED if name != OURS]
    found = {
        "over_best_published": _over(rates[OURS], max(rates[name] for name in PUBLISHED)),
        "over_asyncio": _over(rates[OURS], rates["asyncio"]),
        "over_best": _over(rates[OURS], max(rates[name] for name in others)),
    }
    for load in one["fixed"]:
        if (load["of"], load["share"]) == ("best_published", 0.75):
            for key in ("p95_s", "p95_late_s"):
                times_s = {name: load["arms"][name][key] for name in COMPARED}
                least_s = min((times_s[name] for name in others if times_s[name] is not None), default=inf)
                found[f"{key}_over_least"] = _over(times_s[OURS], least_s)
    return found


def _over(value: float | None, other: float) -> float | None:
    return None if value is None or not other else round(value / other, 3)
