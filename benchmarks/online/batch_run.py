"""One batch as Halo's processor runs it, with what the batches before have left: models that are loaded, and results of
tools.

Owns what is added to the simulation of the processor (`placed.locked_run`), and the plans that Halo makes of a batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from math import inf

from placed.cases import Case
from placed.graphs import CALL_S, PLACES, ROW_S, Graph, load_s
from placed.locked_run import LockedRun, Ranks, after_lock, ranks_of

from online.workload import Machines
from sundog.optimizer.placement.choose import solver_named
from sundog.optimizer.placement.problem import LLMNode, Model, PlacementProblem, Replica, ToolNode

Residents = tuple[str | None, ...]
"""By worker, the model that it has."""
PLANNERS = ("halo_dp", "heft", "operator_wise")
"""Halo's dynamic program, the better known `heft` for its greedy scheduler, and its `opwise`, which splits steps."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that has run. `ends_s`: by request, from the batch's begin."""

    ends_s: tuple[float, ...]
    residents: Residents

    @property
    def makespan_s(self) -> float:
        return max(self.ends_s)


class BatchRun(LockedRun):
    """One batch under one plan. Equal calls of `shared` steps are made once, in this batch or one before."""

    def __init__(
        self,
        case: Case,
        plan: Ranks,
        queries: Sequence[int],
        residents: Residents,
        shared: frozenset[str],
        kept: Collection[tuple[str, int]],
    ) -> None:
        """`queries`: by request. `kept`: steps and queries whose results are there."""
        self._queries = queries
        self._shared = shared
        self._kept = kept
        self._done: set[tuple[str, int]] = set()
        self._followers: dict[tuple[str, int], list[int]] = {}
        self._ends_s = [inf] * case.num_rows
        super().__init__(case, plan, after_lock)
        for worker, model in zip(self._workers, residents, strict=True):
            worker.model = model

    def run(self) -> Batch:
        """Run it whole."""
        self.makespan_s()
        return Batch(tuple(self._ends_s), tuple(worker.model for worker in self._workers))

    def _make_ready(self, step: str, rows: Iterable[int]) -> None:
        if step not in self._shared:
            super()._make_ready(step, rows)
            return
        leading, answered = [], []
        for row in rows:
            call = step, self._queries[row]
            if call in self._kept or call in self._done:
                answered.append(row)
            elif call in self._followers:
                self._followers[call].append(row)
            else:
                self._followers[call] = []
                leading.append(row)
        super()._make_ready(step, leading)
        if answered:
            self.queues[step].num_left -= len(answered)
            self._pass_on(step, answered)

    def _pass_on(self, step: str, rows: Sequence[int]) -> None:
        if step in self._shared:
            rows = list(rows)
            for row in list(rows):
                call = step, self._queries[row]
                self._done.add(call)
                followers = self._followers.pop(call, [])
                self.queues[step].num_left -= len(followers)
                rows += followers
        super()._pass_on(step, rows)

    def _end_rows(self, rows: Iterable[int]) -> None:
        rows = list(rows)
        super()._end_rows(rows)
        for row in rows:
            if not self._num_ends_left[row]:
                self._ends_s[row] = self._now_s


def tools_of(graph: Graph) -> frozenset[str]:
    """Return the steps whose equal calls Halo makes once: SQL by itself, HTTP and rules where the author says so."""
    return frozenset(step.name for step in graph.steps if not step.is_llm)


@cache
def plan_of(graph: Graph, machines: Machines, num_rows: int, residents: Residents, planner: str) -> Ranks:
    """Return Halo's plan of a batch of so many requests."""
    problem = problem_of(graph, machines, num_rows, residents)
    found = solver_named(planner)(problem)
    return ranks_of(graph, found, [replica.name for replica in problem.replicas])


def problem_of(graph: Graph, machines: Machines, num_rows: int, residents: Residents) -> PlacementProblem:
    """Return the problem of one batch, with true figures."""
    models = tuple(dict.fromkeys(step.kind for step in graph.steps if step.is_llm))
    num_waves = num_rows / PLACES
    llm_nodes, tool_nodes = [], []
    for step in graph.steps:
        if step.is_llm:
            exec_s = ROW_S * num_rows
            wave_s = exec_s / max(1.0, num_waves)
            llm_nodes.append(
                LLMNode(step.name, step.kind, exec_s, step.parents, 0.0, machines.num_workers, wave_s, wave_s)
            )
        else:
            call_s = graph.call_s(step)
            exec_s = call_s * max(1.0, num_rows / machines.tool_places)
            tool_nodes.append(ToolNode(step.name, exec_s, step.parents, call_s, step.kind, call_s))
    turn_s = CALL_S if num_waves > 1 else 0.0
    return PlacementProblem(
        tuple(llm_nodes),
        tuple(tool_nodes),
        tuple(Model(model, load_s(model), load_s(model) + turn_s) for model in models),
        tuple(
            Replica(f"gpu-{number}", frozenset(models), () if model is None else (model,))
            for number, model in enumerate(residents)
        ),
    )
