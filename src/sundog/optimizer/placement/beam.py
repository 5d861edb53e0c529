"""Beam search over partial schedules: the dynamic program's steps, of which only the most promising are kept.

Owns the choice of steps and of what is kept. Loses where a good plan must look bad for longer than the beam is wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import itemgetter

from sundog.optimizer.placement.answer import score, solution_of
from sundog.optimizer.placement.baselines import all_steps_of_baselines, earliest
from sundog.optimizer.placement.bound import Bound
from sundog.optimizer.placement.improve import improve
from sundog.optimizer.placement.indexed import Indexed
from sundog.optimizer.placement.moves import one_of_each, ready_nodes, shape_and_times
from sundog.optimizer.placement.problem import PlacementProblem, PlacementSolution
from sundog.optimizer.placement.schedule import IndexedAssignment, Schedule

MIN_WIDTH = 4  # one that is narrower finds nothing that local improvement does not find sooner
WIDTH_BUDGET = 3_600  # nodes kept, times the size of the problem: the wider, the shorter the plan
NUM_STARTS = 3  # of the beam's sequences, for local improvement
# In local improvement; a placement takes one to three millionths of a second.
PLACEMENTS_PER_NODE = 8_000
PLACEMENTS_PER_NODE_OF_FEW, MAX_PLACEMENTS_OF_FEW = 25_000, 115_000
MAX_CHOICES = 4  # single replicas tried for a node, earliest end first
MAX_READY = 6  # nodes tried for a schedule, longest tail first


def solve_beam(problem: PlacementProblem, effort: float = 1.0) -> PlacementSolution:
    """Solve by a beam, which is never worse than a baseline: their sequences are improved beside the beam's own.
    `effort`: as in the dynamic program."""
    ix = Indexed(problem)
    root = Schedule(ix)
    lower_bound = Bound(root)(root)
    return solution_of(ix, beam_steps(root, all_steps_of_baselines(root), lower_bound, effort), "beam", lower_bound)


def beam_steps(
    root: Schedule, known: Sequence[tuple[IndexedAssignment, ...]], target: float, effort: float = 1.0
) -> tuple[IndexedAssignment, ...]:
    """Return steps at least as good as the `known` sequences; stops early when it reaches the value `target`."""
    ix = root.ix
    width = int(effort * WIDTH_BUDGET) // (max(1, ix.num_llm) * ix.size)
    starts = [*(beam_search(root, width)[:NUM_STARTS] if width >= MIN_WIDTH else ()), *known]
    starts.sort(key=lambda steps: score(root.copy().play(steps)))
    most = max(MAX_PLACEMENTS_OF_FEW, PLACEMENTS_PER_NODE * ix.num_llm)
    return improve(root, starts, target, int(effort * min(most, PLACEMENTS_PER_NODE_OF_FEW * ix.num_llm)))


def beam_search(root: Schedule, width: int) -> list[tuple[IndexedAssignment, ...]]:
    """Complete step sequences, best first; at most `width`, at least one."""
    bound = Bound(root)
    beam: list[tuple[Schedule, tuple[IndexedAssignment, ...]]] = [(root, ())]
    while beam[0][0].done != root.ix.all_mask:
        ranked: list[tuple[float, float, int, Schedule, tuple[IndexedAssignment, ...]]] = []
        seen: set[object] = set()
        for schedule, steps in beam:
            for step in promising_steps(schedule):
                child = schedule.copy()
                child.append(*step)
                key = shape_and_times(child)
                if key not in seen:
                    seen.add(key)
                    ranked.append((bound(child), child.sum_s, len(ranked), child, (*steps, step)))
        ranked.sort(key=itemgetter(0, 1, 2))
        beam = [(child, steps) for _, _, _, child, steps in ranked[:width]]
    return [steps for _, steps in beam]


def promising_steps(schedule: Schedule) -> Iterator[IndexedAssignment]:
    """Yield the ready nodes with the longest tails; for each width the replicas that would end it first."""
    ix = schedule.ix
    ready = sorted(ready_nodes(schedule), key=lambda node: -ix.tail_s[node])[:MAX_READY]
    for node in ready:
        able = ix.replicas_of[node]
        singles = one_of_each(schedule, able)
        for replica in sorted(singles, key=lambda r: schedule.shard(node, r, 1)[1])[:MAX_CHOICES]:
            yield node, (replica,)
        for width in _widths(ix.max_width[node]):
            yield node, earliest(schedule, node, width)


def _widths(most: int) -> list[int]:
    """Return 2, 3, 4, 6, 8, 12, ... and the most itself."""
    widths = {most} | {power * odd // 2 for power in (2, 4, 8, 16, 32, 64) for odd in (2, 3)}
    return sorted(width for width in widths if 1 < width <= most)
