"""The figures and replicas that a placement of steps on workers is made of.

Owns what a placement needs to know. Never estimates; the figures are handed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from sundog.cost.estimate import Estimate
from sundog.cost.history import ASSUMED_CALL_S, ASSUMED_TOOL_S
from sundog.ir.logical import WorkerGroup

if TYPE_CHECKING:
    from sundog.cost.plan_estimate import PlanEstimate

ASSUMED_LOAD_S = Estimate(1.0, 10.0, 100.0)
"""An engine that was never loaded here is taken to load in so long."""


@dataclass(frozen=True, slots=True)
class MeasuredCalls:
    """The calls of a step, as far as they have run, which bound the time of its batch from both sides. While a pipeline
    fills or drains, a call has fewer beside it than the figures suppose: it ends no later than it would among all of
    them, and has no less of its replica."""

    #: Calls that have ended.
    least_calls: float
    #: Calls of the batch if each row that is left has as many as those that have passed; later ones find more results
    #: that answer them, never fewer.
    most_calls: float
    #: Seconds from a call's start to its end.
    call_s: float
    #: Seconds of a replica for a call, each moment divided equally among those that ran in it.
    replica_s: float


@dataclass(frozen=True, slots=True)
class PlacementFigures:
    """Seconds of the batch."""

    #: By step, the whole batch on one replica, or by its tool; a step that is left out has nothing to do.
    exec_s: Mapping[str, Estimate]
    #: By step, its calls over those that run at once there.
    num_waves: Mapping[str, float]
    #: By step, its calls that run at once there.
    num_places: Mapping[str, int]
    #: By engine pool.
    load_s: Mapping[str, float]
    #: Where they come from, as a phrase for explain.
    basis: str
    #: The steps of which no time is known, so that only their proportions count.
    guessed: frozenset[str] = frozenset()
    #: Rows of the batch, of several tables those of the largest; 0 for a batch that is in flight as a whole, however
    #: many they are.
    num_rows: float = 0.0

    def left(self, shares: Mapping[str, float]) -> PlacementFigures:
        """Return the figures of what remains: `shares`, by step, of the batch."""
        left = {step: shares[step] for step in self.exec_s if shares[step]}
        return replace(
            self,
            exec_s={step: self.exec_s[step] * share for step, share in left.items()},
            num_waves={step: self.num_waves[step] * share for step, share in left.items()},
            num_rows=self.num_rows * max(left.values(), default=0.0),
        )

    def of_share(self, share: float) -> PlacementFigures:
        """Return the figures of a share of the batch."""
        return self.left(dict.fromkeys(self.exec_s, share))

    def scaled_down(self, scale: float) -> PlacementFigures:
        """Return the figures for a `scale`-th of the rows on machines with that part of their places."""
        num_places = {step: max(1, round(places / scale)) for step, places in self.num_places.items()}
        return replace(self, num_places=num_places, num_rows=self.num_rows / scale)

    def corrected(self, measured: Mapping[str, MeasuredCalls], load_s: Mapping[str, float]) -> PlacementFigures | None:
        """Return the figures nearest to these that agree with what was measured since; None where the ranges of these
        do (of loads: within a factor of two)."""
        bounds = {step: self._bounds(step, one) for step, one in measured.items()}
        is_off = any(
            most_s < self.exec_s[step].low or least_s > self.exec_s[step].high
            for step, (least_s, most_s) in bounds.items()
        )
        is_load_off = any(seconds not in _about(self.load_s[pool]) for pool, seconds in load_s.items())
        if not is_off and not is_load_off:
            return None
        nearest = {
            step: min(max(self.exec_s[step].expected, least_s), most_s) for step, (least_s, most_s) in bounds.items()
        }
        ratios = [
            seconds / self.exec_s[step].expected
            for step, seconds in nearest.items()
            if step in self.guessed and self.exec_s[step].expected
        ]
        # The figures that are still guesses are off as the other guesses were.
        scale = median(ratios) if ratios else 1.0
        found = {step: estimate * (scale if step in self.guessed else 1.0) for step, estimate in self.exec_s.items()}
        found |= {step: _about(seconds) for step, seconds in nearest.items()}
        guessed = frozenset() if ratios else self.guessed
        return replace(self, exec_s=found, load_s={**self.load_s, **load_s}, basis="this run so far", guessed=guessed)

    def _bounds(self, step: str, measured: MeasuredCalls) -> tuple[float, float]:
        """Return the least and the most seconds of one replica that the step's batch can take."""
        num_places = self.num_places[step]
        num_calls = min(max(self.num_waves[step] * num_places, measured.least_calls), measured.most_calls)
        return num_calls * measured.call_s / num_places, num_calls * measured.replica_s


def _about(seconds: float) -> Estimate:
    return Estimate(seconds / 2, seconds, seconds * 2)


@dataclass(frozen=True, slots=True)
class PoolReplicas:
    """The places where an engine pool's calls can run: on the workers of its group, or on `num_replicas` that stay
    loaded."""

    pool: str
    group: WorkerGroup | None
    num_replicas: int

    @property
    def names(self) -> list[str]:
        name = self.pool if self.group is None else self.group.name
        return [f"{name}-{number}" for number in range(self.num_replicas)]


def figures_of(
    estimate: PlanEstimate, replicas: Sequence[PoolReplicas], limits: Mapping[str, int], load_s: Mapping[str, float]
) -> PlacementFigures:
    """Return the estimate's figures. `limits`: by pool, how many calls a replica of it, or a tool, runs at once. Where
    a step was never measured, its calls are guessed, and that may be off by a factor of ten."""
    num_replicas = {one.pool: one.num_replicas for one in replicas}
    unknown = [node.node for node in estimate.nodes if node.seconds is None]
    exec_s = {
        node.node: node.calls.num_executed
        * (ASSUMED_CALL_S if node.pool in num_replicas else ASSUMED_TOOL_S * (1 / limits[node.pool]))
        if node.seconds is None
        else node.seconds * num_replicas.get(node.pool, 1)
        for node in estimate.nodes
    }
    num_places = {node.node: limits[node.pool] for node in estimate.nodes}
    num_waves = {node.node: node.calls.num_executed.expected / num_places[node.node] for node in estimate.nodes}
    if len(unknown) == len(estimate.nodes):
        basis = "call counts alone"
    else:
        basis = f"measured calls; for {', '.join(unknown)} call counts alone" if unknown else "measured calls"
    num_rows = max((table.sample.num_rows for table in estimate.tables), default=0)
    return PlacementFigures(exec_s, num_waves, num_places, load_s, basis, frozenset(unknown), num_rows)
