"""Halo's dynamic program over partial schedules (arXiv 2509.02121, section 4), exact where it finishes.

A state is a done set (closed under dependencies) with the multiset of its replicas' signatures; where Halo adds the
epoch number, it keeps the times themselves, so that no state is merged with a worse one. It grows by one node at a
time, on any set of replicas, best bound first. Owns the search; `schedule` says what a step means.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from sundog.optimizer.placement.answer import best_of, is_below, solution_of
from sundog.optimizer.placement.baselines import all_steps_of_baselines
from sundog.optimizer.placement.beam import beam_steps
from sundog.optimizer.placement.bound import Bound
from sundog.optimizer.placement.indexed import Indexed
from sundog.optimizer.placement.moves import ScheduleShape, all_steps, shape_and_times
from sundog.optimizer.placement.problem import PlacementProblem, PlacementSolution
from sundog.optimizer.placement.schedule import IndexedAssignment, Schedule

STATE_BUDGET = 60_000  # states times the size of the problem: a quarter of a second


@dataclass(frozen=True, slots=True)
class Searched:
    """The outcome of a search."""

    #: A better schedule than the incumbent, or None.
    steps: tuple[IndexedAssignment, ...] | None
    value: float
    lower_bound: float
    #: The states ran out before the search.
    is_exhausted: bool


def solve_dp(problem: PlacementProblem, effort: float = 1.0) -> PlacementSolution:
    """Return the optimal answer, with the solver `dp`, where the search ends.

    Where it runs out of states, it hands the best that it has seen, and its bound, to the beam: then that one answers.
    `effort`, of this and of the beam: a share of the states that they may look at.
    """
    ix = Indexed(problem)
    root = Schedule(ix)
    known = best_of(root, all_steps_of_baselines(root))
    found = exact_search(root, root.copy().play(known).value(), int(STATE_BUDGET * effort) // ix.size)
    if found.steps is not None:
        known = found.steps
    if found.is_exhausted:
        return solution_of(ix, beam_steps(root, [known], found.lower_bound, effort), "beam", found.lower_bound)
    return solution_of(ix, known, "dp", found.lower_bound)


def exact_search(root: Schedule, incumbent: float, max_states: int) -> Searched:
    """Return the best completion of `root` below `incumbent`; gives up after `max_states` states looked at."""
    return _Search(root, incumbent, max_states).run()


class _Search:
    def __init__(self, root: Schedule, incumbent: float, max_states: int) -> None:
        self._bound = Bound(root)
        self._root = root
        self._value = incumbent
        self._steps: tuple[IndexedAssignment, ...] | None = None
        self._max_states = max_states
        self._num_states = 0
        self._times: dict[ScheduleShape, list[tuple[float, ...]]] = {}
        self._heap: list[tuple[float, int, int, Schedule, tuple[IndexedAssignment, ...]]] = []

    def run(self) -> Searched:
        """Expand the schedule with the least bound until none is below the best value. Where `max_states` are too few,
        the best answer so far is returned with the bound that was reached."""
        least = self._bound(self._root)
        self._heap.append((least, 0, 0, self._root, ()))
        while self._heap:
            bound, _, _, schedule, steps = heapq.heappop(self._heap)
            least = max(least, min(bound, self._value))
            if not is_below(bound, self._value):
                break
            if self._num_states >= self._max_states:
                return Searched(self._steps, self._value, least, True)
            self._expand(schedule, steps, bound)
        return Searched(self._steps, self._value, self._value, False)

    def _expand(self, schedule: Schedule, steps: tuple[IndexedAssignment, ...], bound: float) -> None:
        all_mask = schedule.ix.all_mask
        for step in all_steps(schedule):
            self._num_states += 1
            child = schedule.copy()
            child.append(*step)
            if child.done == all_mask:
                if is_below(child.value(), self._value):
                    self._value, self._steps = child.value(), (*steps, step)
                continue
            if self._is_dominated(child):
                continue
            child_bound = max(bound, self._bound(child))
            if is_below(child_bound, self._value):
                depth = len(steps) + 1
                heapq.heappush(self._heap, (child_bound, -depth, self._num_states, child, (*steps, step)))

    def _is_dominated(self, schedule: Schedule) -> bool:
        """Return whether a schedule is dominated. It keeps the times of the schedule unless a kept one of its shape is
        at least as early everywhere."""
        shape, times = shape_and_times(schedule)
        kept = self._times.setdefault(shape, [])
        for other in kept:
            if all(map(float.__le__, other, times)):
                return True
        kept[:] = [other for other in kept if not all(map(float.__le__, times, other))]
        kept.append(times)
        return False
