"""The sums of many cases: how many promises hold, and how sundog's runs stand beside the others'.

Owns the targets, and the line of a case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import geometric_mean, median
from typing import Any

from placed.measured import Measured

PROMISE = 0.10
BEHIND_HALO = 0.02
BEHIND_BEST = 0.03
MIN_PLANNING_S = 1.0
MAX_PLANNING_SHARE = 0.005
HEAD = (
    "case        solver     turns  promise   simul.   strict      run run/prom =  run x tools x plan"
    "  halo_dp     best other"
)


def counts(measured: Sequence[Measured]) -> dict[str, Any]:
    """The counts of some cases; those of runs over the cases that were run."""
    ran = [one for one in measured if one.ran is not None]
    return {
        "num_cases": len(measured),
        "planning_s": {
            "median": round(median(one.planning_s for one in measured), 3),
            "worst": round(max(one.planning_s for one in measured), 3),
            "num_above_1_s_and_half_a_per_cent": sum(_is_too_long(one.planning_s, one) for one in measured),
        },
        "choosing_s": {
            "median": round(median(one.choosing_s for one in measured), 3),
            "worst": round(max(one.choosing_s for one in measured), 3),
            "num_above_1_s_and_half_a_per_cent": sum(_is_too_long(one.choosing_s, one) for one in measured),
        },
        "as_plan": {
            "halo_dp_over_auto": _ratios(measured, "halo_dp", lambda one: one.strict_s),
            "num_within_3_percent_of_best": sum(_is_near_best(one, one.strict_s) for one in measured),
            "worse_than_best": Counter(one.best_other[0] for one in measured if not _is_near_best(one, one.strict_s)),
        },
        "as_run": None if not ran else _of_runs(ran),
    }


def _of_runs(ran: Sequence[Measured]) -> dict[str, Any]:
    halo = [(one, other) for one in ran if (other := one.others["halo_dp"]) is not None]
    over = sorted(one.over_promise for one in ran)
    return {
        "num_run": len(ran),
        "num_within_10_percent": sum(abs(value - 1) <= PROMISE for value in over),
        "num_within_10_percent_of_simulation": sum(abs(_run_s(one) / one.simulated_s - 1) <= PROMISE for one in ran),
        "simulating_s": {
            "median": round(median(one.simulating_s for one in ran), 3),
            "worst": round(max(one.simulating_s for one in ran), 3),
        },
        "over_promise": {"least": round(over[0], 3), "median": round(median(over), 3), "worst": round(over[-1], 3)},
        "halo_dp_over_auto": _ratios(ran, "halo_dp", _run_s),
        "num_slower_than_halo_dp_by_2_percent": sum(
            _run_s(one) > (1 + BEHIND_HALO) * other.run_s for one, other in halo
        ),
        "num_within_3_percent_of_best": sum(_is_near_best(one, _run_s(one)) for one in ran),
        "worse_than_best": Counter(one.best_other[0] for one in ran if not _is_near_best(one, _run_s(one))),
        "num_replans": sum(one.ran.num_replans for one in ran if one.ran is not None),
        "num_planned_anew": sum(one.ran.num_replans > 0 for one in ran if one.ran is not None),
        "main_cause_where_broken": Counter(
            max(one.causes, key=lambda cause: abs(one.causes[cause] - 1))
            for one in ran
            if abs(one.over_promise - 1) > PROMISE
        ),
        "cpu_s": round(sum(one.ran.cpu_s for one in ran if one.ran is not None), 1),
    }


def line(one: Measured) -> str:
    """One case in a line, below HEAD."""
    own = " " * 38
    if one.ran is not None:
        parts = " ".join(f"{value:6.2f}" for value in one.causes.values())
        own = f"{one.ran.makespan_s:8.1f} {one.over_promise:8.2f} {parts}"
    halo = one.others["halo_dp"]
    halo_s = "none" if halo is None else f"{halo.run_s:.1f}"
    name, best_s = one.best_other
    plan = f"{one.case:<11} {one.solver:<10} {one.num_turns:5}"
    plan += f" {one.promise_s:8.1f} {one.simulated_s:8.1f} {one.strict_s:8.1f}"
    return f"{plan} {own} {halo_s:>8} {best_s:8.1f} {name}"


def _ratios(measured: Sequence[Measured], name: str, own_s: Callable[[Measured], float]) -> dict[str, float] | None:
    """Return how many times longer the baseline's runs are than `own_s`; None where it answered no case."""
    ratios = [other.run_s / own_s(one) for one in measured if (other := one.others[name]) is not None]
    if not ratios:
        return None
    return {
        "num": len(ratios),
        "geomean": round(geometric_mean(ratios), 3),
        "least": round(min(ratios), 3),
        "most": round(max(ratios), 3),
    }


def _run_s(one: Measured) -> float:
    assert one.ran is not None, f"{one.case} was not run"
    return one.ran.makespan_s


def _is_near_best(one: Measured, seconds: float) -> bool:
    return seconds <= (1 + BEHIND_BEST) * one.best_other[1]


def _is_too_long(seconds: float, one: Measured) -> bool:
    return seconds > MIN_PLANNING_S + MAX_PLANNING_SHARE * one.promise_s
