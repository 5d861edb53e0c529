"""Which solver answers: the one rule, so that it can be read and reported (`Placement.solver`), and the names by which
a user chooses another."""

from __future__ import annotations

from collections.abc import Mapping

from sundog.errors import ConfigError, suggest
from sundog.optimizer.placement.baselines import heft, min_switch, operator_wise, partition, round_robin
from sundog.optimizer.placement.beam import solve_beam
from sundog.optimizer.placement.dp import solve_dp
from sundog.optimizer.placement.problem import Objective, Placement, PlacementProblem, Solver

MAX_DP_LLM_NODES = 20
TURNS_MARGIN = 0.4
"""Of the plan with turns. Four workflows on eight modelled workers, whose calls were estimated about right, took 19 to
36 % longer with turns than `simulate` says, as loads empty caches and a row's calls come when they come; as a
partition 10 % less to 10 % more."""


def place(problem: PlacementProblem) -> Placement:
    """The dynamic program up to 20 LLM nodes, which yields to the beam when it runs out of states; else the beam."""
    return solve_dp(problem) if len(problem.llm_nodes) <= MAX_DP_LLM_NODES else solve_beam(problem)


def place_to_run(problem: PlacementProblem) -> Placement:
    """What `place` finds; where rows flow, a partition without turns all the same if it comes within TURNS_MARGIN."""
    rows_flow = any(node.wave_s < node.exec_s for node in problem.llm_nodes)
    if problem.objective is not Objective.MAKESPAN or not rows_flow:
        return place(problem)
    steady = partition(problem)
    if _has_turns(problem, steady):
        return place(problem)
    if steady.value <= steady.lower_bound * (1 + TURNS_MARGIN):
        return steady
    found = place(problem)
    return steady if steady.value <= found.value * (1 + TURNS_MARGIN) else found


def _has_turns(problem: PlacementProblem, placement: Placement) -> bool:
    """Whether some replica needs room for more models than it has."""
    models = {node.name: node.model for node in problem.llm_nodes}
    return any(
        len({models[node] for node in placement.timeline.order_on(replica.name)}) > replica.max_resident
        for replica in problem.replicas
    )


SOLVERS: Mapping[str, Solver] = {
    "auto": place_to_run,
    "round_robin": round_robin,
    "operator_wise": operator_wise,
    "min_switch": min_switch,
    "heft": heft,
    "partition": partition,
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
