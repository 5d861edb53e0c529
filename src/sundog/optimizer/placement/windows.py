"""A batch that comes in windows: of more rows than are in flight at once, the next ones come as others end, and what
was planned for one window is done again for each.

Owns what a sequence takes over all windows, and the search for one that takes little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sundog.optimizer.placement.answer import TOLERANCE, is_below, score, solution_of
from sundog.optimizer.placement.baselines import all_steps_of_baselines
from sundog.optimizer.placement.improve import Climb, improved_by
from sundog.optimizer.placement.indexed import Indexed
from sundog.optimizer.placement.problem import LLMNode, PlacementProblem, PlacementSolution, ToolNode
from sundog.optimizer.placement.schedule import IndexedAssignment, Schedule

MAX_PLAYED = 3
"""Windows; later ones take as long as the last of these, which finds the engines as the one before has left them."""
MAX_PLACEMENTS = 100_000


class AllWindows:
    """This class plays a sequence for every window of a problem: the first few, from which the others follow."""

    def __init__(self, problem: PlacementProblem) -> None:
        self._num_windows = problem.num_windows
        self._num_llm = len(problem.llm_nodes)
        most = min(int(problem.num_windows) + 1, MAX_PLAYED) if problem.num_windows > 1 else 1
        self._played = range(max(1, most - 1), most + 1)
        self._roots = [Schedule(Indexed(_unrolled(problem, number))) for number in self._played]
        #: How many nodes are placed to play a sequence.
        self.num_placements = self._num_llm * sum(self._played)

    def makespan_s(self, steps: Sequence[IndexedAssignment]) -> float:
        """Return when the last row of the last window ends."""
        return self._extended([one.end_s for one in self._play(steps)])

    def value(self, steps: Sequence[IndexedAssignment]) -> float:
        """Return the problem's objective."""
        return self._extended([one.value() for one in self._play(steps)])

    def score_of(self, steps: Sequence[IndexedAssignment]) -> tuple[float, float]:
        """Return the score (`answer.score`)."""
        scores = [score(one) for one in self._play(steps)]
        return self._extended([value for value, _ in scores]), self._extended([sum_s for _, sum_s in scores])

    def _play(self, steps: Sequence[IndexedAssignment]) -> list[Schedule]:
        found = [root.copy() for root in self._roots]
        for schedule, num_windows in zip(found, self._played, strict=True):
            for window in range(num_windows):
                schedule.play((node + window * self._num_llm, replicas) for node, replicas in steps)
        return found

    def _extended(self, values: Sequence[float]) -> float:
        """Return the value of all windows from that of some, and of one more."""
        return values[-1] + (self._num_windows - self._played[-1]) * (values[-1] - values[0])


def solve_windows(problem: PlacementProblem, found: PlacementSolution, effort: float) -> PlacementSolution:
    """Return the best sequence for all windows that local improvement finds, from the answer for one window and the
    baselines. `effort`: the share of MAX_PLACEMENTS nodes that it may place."""
    ix, windows = Indexed(problem), AllWindows(problem)
    if not ix.num_llm:
        return found
    root = Schedule(ix)
    starts = sorted([assigned_steps(ix, found), *all_steps_of_baselines(root)], key=windows.score_of)
    best = improved_by(_Climb(root, windows, int(effort * MAX_PLACEMENTS)), starts, 0.0)
    return found if best == assigned_steps(ix, found) else solution_of(ix, best, "windows")


def whole_makespan_s(problem: PlacementProblem, found: PlacementSolution) -> float:
    """Return when the last row of the last window ends, if a solution is done for each."""
    if problem.num_windows <= 1:
        return found.timeline.makespan_s
    return AllWindows(problem).makespan_s(assigned_steps(Indexed(problem), found))


def assigned_steps(ix: Indexed, found: PlacementSolution) -> tuple[IndexedAssignment, ...]:
    """Return the steps that a solution consists of."""
    numbers = {replica.name: number for number, replica in enumerate(ix.problem.replicas)}
    return tuple(
        (ix.index[one.node], tuple(sorted(numbers[name] for name in one.replicas)))
        for one in found.sequence
        if one.replicas
    )


class _Climb(Climb):
    """A climb that judges a sequence by all windows."""

    def __init__(self, root: Schedule, windows: AllWindows, max_placements: int) -> None:
        super().__init__(root, max_placements)
        self._windows = windows

    def score_of(self, steps: Sequence[IndexedAssignment]) -> tuple[float, float]:
        self.placements_left -= self._windows.num_placements
        return self._windows.score_of(steps)

    def _remember(self) -> None:
        super()._remember()
        self._score = self.score_of(self._steps)

    def _is_better(self, first: int, steps: list[IndexedAssignment]) -> bool:
        value, sum_s = self.score_of(steps)
        limit, limit_sum_s = self._score
        return is_below(value, limit) or (not is_below(limit, value) and sum_s < limit_sum_s * (1 - TOLERANCE))


def _unrolled(problem: PlacementProblem, num_windows: int) -> PlacementProblem:
    """Return the problem of some windows, in which the nodes of each have the numbers of the one before and as many
    more as there are."""
    copies = [_copy(problem, number) for number in range(num_windows)]
    return replace(
        problem,
        llm_nodes=tuple(node for llm_nodes, _ in copies for node in llm_nodes),
        tool_nodes=tuple(node for _, tool_nodes in copies for node in tool_nodes),
        num_windows=1.0,
    )


def _copy(problem: PlacementProblem, number: int) -> tuple[list[LLMNode], list[ToolNode]]:
    """Return the nodes of a window, counted from 0. Those that wait for none in it wait for the ends of the one before:
    a row ends, and the next one comes."""
    read = {parent for node in problem.nodes for parent in node.parents}
    ends = [_name(node.name, number - 1) for node in problem.nodes if node.name not in read] if number else []

    def parents(node: LLMNode | ToolNode) -> tuple[str, ...]:
        return tuple(_name(parent, number) for parent in node.parents) or tuple(ends)

    return (
        [replace(node, name=_name(node.name, number), parents=parents(node)) for node in problem.llm_nodes],
        [replace(node, name=_name(node.name, number), parents=parents(node)) for node in problem.tool_nodes],
    )


def _name(node: str, window: int) -> str:
    return f"{window}/{node}"
