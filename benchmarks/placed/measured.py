"""The promises and the times of one case: sundog's plan and run, and what others plan and run.

Owns the figures of a case and how a promise that is not kept is taken apart.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from placed.cases import Case
from placed.known import Ran, known_session, planned, problem_of, promised, run
from placed.locked_run import LockedRun, after_lock, by_turns, ranks_of
from sundog.errors import ConfigError
from sundog.optimizer.placement.problem import PlacementProblem, PlacementSolution
from sundog.optimizer.placement.windows import whole_makespan_s

OTHERS = ("halo_dp", "operator_wise", "round_robin", "heft")
"""Halo's dynamic program, its `opwise`, and its `rr_topo`; for its greedy scheduler stands the better known `heft`."""


@dataclass(frozen=True, slots=True)
class Other:
    """A baseline's plan: what it promises, and what it takes under Halo's rules."""

    promise_s: float
    run_s: float
    planning_s: float


@dataclass(frozen=True, slots=True)
class Measured:
    """`promise_s`: of the plan of `auto`. `strict_s`: what a run takes that keeps to it; `strict_free_s`: if each tool
    had its places for itself as well, as the plan has it. `num_turns`: the most models that a worker has after each
    other. `ran`: sundog's run, None where it was not asked for. `others`: None for a baseline without an answer.
    `planning_s`: processor seconds."""

    case: str
    num_llm: int
    solver: str
    is_proven: bool
    num_turns: int
    promise_s: float
    planning_s: float
    #: The makespan that `sundog explain` shows, by the simulator.
    simulated_s: float
    #: Processor seconds of the choice among plans, searches and simulations, and of the simulation of the chosen one.
    choosing_s: float
    simulating_s: float
    strict_s: float
    strict_free_s: float
    ran: Ran | None
    others: dict[str, Other | None]

    @property
    def best_other(self) -> tuple[str, float]:
        """The name and the run of the baseline that takes least."""
        runs = {name: other.run_s for name, other in self.others.items() if other is not None}
        return min(runs.items(), key=lambda one: one[1])

    @property
    def over_promise(self) -> float:
        """The run, as a multiple of what was promised."""
        assert self.ran is not None, f"{self.case} was not run"
        return self.ran.makespan_s / self.promise_s

    @property
    def causes(self) -> dict[str, float]:
        """The three factors of `over_promise`: `run`, that it does not keep to the plan; `tools`, that they share
        their places; `plan`, that the plan is not what it says (calls have a least length)."""
        assert self.ran is not None, f"{self.case} was not run"
        return {
            "run": self.ran.makespan_s / self.strict_s,
            "tools": self.strict_s / self.strict_free_s,
            "plan": self.strict_free_s / self.promise_s,
        }

    def to_row(self) -> dict[str, Any]:
        """One flat row, rounded."""
        row: dict[str, Any] = {key: value for key, value in asdict(self).items() if key not in ("ran", "others")}
        for key, value in ({} if self.ran is None else asdict(self.ran)).items():
            row[f"run_{key}"] = value
        for name, other in self.others.items():
            for key in ("promise_s", "run_s", "planning_s"):
                row[f"{name}_{key}"] = None if other is None else getattr(other, key)
        return {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}


def measure(case: Case, *, is_run: bool = True) -> Measured:
    """Plan the case in every way; with `is_run` run it too."""
    with tempfile.TemporaryDirectory(prefix="sundog-promise-") as folder:
        problem = problem_of(known_session(case, Path(folder)))
    found, planning_s = planned(problem, "auto")
    ranks = ranks_of(case.graph, found, _names(problem))
    ran = None
    if is_run:
        with tempfile.TemporaryDirectory(prefix="sundog-promise-") as folder:
            ran = run(case, Path(folder))
    with tempfile.TemporaryDirectory(prefix="sundog-promise-") as folder:
        shown = promised(case, Path(folder))
    return Measured(
        case.name,
        len(problem.llm_nodes),
        found.solver,
        found.is_optimal,
        max(len(_models_on(problem, found, name)) for name in _names(problem)),
        whole_makespan_s(problem, found),
        planning_s,
        shown.makespan_s,
        shown.choosing_s,
        shown.simulating_s,
        LockedRun(case, ranks, by_turns).makespan_s(),
        LockedRun(case, ranks, by_turns, shares_tools=False).makespan_s(),
        ran,
        {name: _other(case, problem, name) for name in OTHERS},
    )


def _other(case: Case, problem: PlacementProblem, name: str) -> Other | None:
    try:
        found, planning_s = planned(problem, name)
    except ConfigError:
        return None
    run_s = LockedRun(case, ranks_of(case.graph, found, _names(problem)), after_lock).makespan_s()
    return Other(whole_makespan_s(problem, found), run_s, planning_s)


def _names(problem: PlacementProblem) -> list[str]:
    return [replica.name for replica in problem.replicas]


def _models_on(problem: PlacementProblem, found: PlacementSolution, replica: str) -> set[str]:
    models = {node.name: node.model for node in problem.llm_nodes}
    return {models[node] for node in found.timeline.order_on(replica)}
