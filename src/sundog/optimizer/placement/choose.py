"""Which solver answers: the one rule, so that it can be read and reported (`Placement.solver`), and the names by which
a user chooses another."""

from __future__ import annotations

from collections.abc import Mapping

from sundog.errors import ConfigError, suggest
from sundog.optimizer.placement.baselines import heft, min_switch, operator_wise, round_robin
from sundog.optimizer.placement.beam import solve_beam
from sundog.optimizer.placement.dp import solve_dp
from sundog.optimizer.placement.problem import Objective, Placement, PlacementProblem, Solver

MAX_DP_LLM_NODES = 20


def place(problem: PlacementProblem) -> Placement:
    """The dynamic program up to 20 LLM nodes, which yields to the beam when it runs out of states; else the beam."""
    return solve_dp(problem) if len(problem.llm_nodes) <= MAX_DP_LLM_NODES else solve_beam(problem)


SOLVERS: Mapping[str, Solver] = {
    "auto": place,
    "round_robin": round_robin,
    "operator_wise": operator_wise,
    "min_switch": min_switch,
    "heft": heft,
}


def solver_named(name: str) -> Solver:
    """ConfigError for an unknown name."""
    if name not in SOLVERS:
        raise ConfigError(f"unknown placement '{name}'", hint=suggest(name, SOLVERS))
    return SOLVERS[name]


def objective_named(name: str) -> Objective:
    """ConfigError for an unknown name."""
    known = [objective.value for objective in Objective]
    if name not in known:
        raise ConfigError(f"unknown objective '{name}'", hint=suggest(name, known))
    return Objective(name)
