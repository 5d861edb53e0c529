"""The way from a solver's steps to its answer, and the order of any two answers.

Owns where tools stand in the sequence, and the score. Never changes a decision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sundog.optimizer.placement.bound import Bound
from sundog.optimizer.placement.indexed import Indexed
from sundog.optimizer.placement.problem import Assignment, PlacementSolution
from sundog.optimizer.placement.schedule import IndexedAssignment, Schedule
from sundog.optimizer.placement.simulate import simulate

TOLERANCE = 1e-9  # relative; the noise of adding seconds in another order stays below it


def score(schedule: Schedule) -> tuple[float, float]:
    """Return the score; smaller is better: the objective, then the sum of all ends, so that ties go to what is early
    everywhere."""
    return schedule.value(), schedule.sum_s


def is_below(value: float, other: float) -> bool:
    return value < other - TOLERANCE * abs(other)


def best_of(root: Schedule, candidates: Iterable[tuple[IndexedAssignment, ...]]) -> tuple[IndexedAssignment, ...]:
    """Return the first of the best by `score`; at least one candidate."""
    return min(candidates, key=lambda steps: score(root.copy().play(steps)))


def solution_of(
    ix: Indexed, steps: Iterable[IndexedAssignment], solver: str, lower_bound: float | None = None
) -> PlacementSolution:
    """Return the solution that a sequence of steps is.

    `lower_bound`: what the solver has proven; the bound of the empty schedule where it is None.
    """
    sequence = tuple(_assignments(ix, steps))
    timeline = simulate(ix.problem, sequence)
    if lower_bound is None:
        root = Schedule(ix)
        lower_bound = Bound(root)(root)
    lower_bound = min(lower_bound, timeline.value)
    return PlacementSolution(sequence, timeline, solver, lower_bound, not is_below(lower_bound, timeline.value))


def _assignments(ix: Indexed, steps: Iterable[IndexedAssignment]) -> Iterator[Assignment]:
    """Yield the assignments; tools stand right behind the last of their parents."""
    placed = 0
    tools = [node for node in ix.order if node >= ix.num_llm]
    for node, replicas in [(-1, ()), *steps]:
        if node >= 0:
            placed |= 1 << node
            yield Assignment(ix.names[node], tuple(ix.problem.replicas[replica].name for replica in replicas))
        for tool in tools:
            if not placed >> tool & 1 and not ix.parents_mask[tool] & ~placed:
                placed |= 1 << tool
                yield Assignment(ix.names[tool])
