"""Ablations: sundog with one optimization switched off, or another policy set, beside the whole.

Owns which arms these are and what is counted of them: how many times the whole's time each takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from halo.arms.catalog import WITH_POLICY, WITHOUT
from halo.results import CaseResults, geometric_mean

OWN = "sundog"


@dataclass(frozen=True, slots=True)
class Ablation:
    """One arm over the cases of one setting: for each workload's label, the median of the pairs and how many there
    are."""

    change: str
    ratios: dict[str, tuple[float, int]]

    @property
    def mean(self) -> float | None:
        return geometric_mean(ratio for ratio, _ in self.ratios.values())

    @property
    def num_pairs(self) -> int:
        return sum(number for _, number in self.ratios.values())


def is_ablation(arm: str) -> bool:
    return arm.startswith((WITHOUT, WITH_POLICY))


def ablations_of(cases: Sequence[CaseResults]) -> list[Ablation]:
    """Return the ablations that any of these cases has, the one that costs most first."""
    arms = sorted({arm for case in cases for arm in case.arms if is_ablation(arm)})
    found = [Ablation(_change(arm), dict(_ratios(cases, arm))) for arm in arms]
    return sorted(found, key=lambda one: -(one.mean or 0.0))


def _ratios(cases: Sequence[CaseResults], arm: str) -> list[tuple[str, tuple[float, int]]]:
    found = []
    for case in cases:
        if OWN in case.arms and arm in case.arms:
            own, other = case.arms[OWN], case.arms[arm]
            ratio = own.ratio_to(other)
            if ratio is not None:
                found.append((case.label, (ratio, len(own.times_s.keys() & other.times_s.keys()))))
    return found


def _change(arm: str) -> str:
    if arm.startswith(WITHOUT):
        return f"without {arm.removeprefix(WITHOUT)}"
    return f"policy {arm.removeprefix(WITH_POLICY)}"
