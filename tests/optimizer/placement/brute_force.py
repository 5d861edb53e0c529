"""The optimum by trying everything, with nothing assumed but the evaluator's steps."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from sundog.optimizer.placement.indexed import Indexed
from sundog.optimizer.placement.problem import PlacementProblem
from sundog.optimizer.placement.schedule import Schedule

Visit = Callable[[Schedule, float], None]  # a partial schedule and the value of its best completion


def optimum(problem: PlacementProblem, visit: Visit | None = None) -> float:
    return best_completion(Schedule(Indexed(problem)), visit)


def best_completion(schedule: Schedule, visit: Visit | None) -> float:
    ix = schedule.ix
    if schedule.done == ix.all_mask:
        return schedule.value()
    best = inf
    for node in filter(schedule.is_ready, range(ix.num_llm)):
        for replicas in ix.subsets_of(node):
            child = schedule.copy()
            child.append(node, replicas)
            best = min(best, best_completion(child, visit))
    if visit is not None:
        visit(schedule, best)
    return best
