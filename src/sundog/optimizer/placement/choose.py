"""The one rule that says which solver answers, so that it can be read and reported (`Placement.solver`), and the names
by which a user chooses another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sundog.errors import ConfigError, suggest
from sundog.optimizer.placement.baselines import heft, min_switch, operator_wise, partition, round_robin
from sundog.optimizer.placement.beam import solve_beam
from sundog.optimizer.placement.dp import solve_dp
from sundog.optimizer.placement.halo.dp import halo_dp
from sundog.optimizer.placement.objective import Objective
from sundog.optimizer.placement.problem import PlacementProblem, PlacementSolution, Solver
from sundog.optimizer.placement.windows import solve_windows, whole_makespan_s

AUTO = "auto"
MAX_DP_LLM_NODES = 20
FULL_SEARCH_S = 1.0
"""About so much processor time has a search that may look at all its states."""
MAX_SEARCH_SHARE = 0.005
"""A share of the time that is planned; the search has no more."""
TURNS_MARGIN = 0.05
"""By how much more a partition may take than a plan with turns. Where plans with turns promised 4.6 to 63 % over the
partition (38 published and random graphs in virtual time, benchmarks/promise.py), they took 13 % less to 5 % more than
foretold, partitions 31 % less to 15 % more: turns won 6 to 39 % in 35 and nothing in two; in one they lost 10 %, as the
partition took 16 % less than foretold. One case was below 5 %, and errors are that large.
"""


def solve(problem: PlacementProblem, effort: float = 1.0) -> PlacementSolution:
    """Solve by the dynamic program up to 20 LLM nodes, which yields to the beam when it runs out of states; else by the
    beam. `effort` is the share of their states that they may look at."""
    chosen = solve_dp if len(problem.llm_nodes) <= MAX_DP_LLM_NODES else solve_beam
    return chosen(problem, effort)


def solve_to_run(problem: PlacementProblem) -> PlacementSolution:
    """Return what `solve` finds in a time that is worth it for so long a run; for the makespan a partition all the same
    unless what is found has no turns either or is better by more than TURNS_MARGIN."""
    steady = partition(problem)
    is_safe = problem.objective is Objective.MAKESPAN and not has_turns(problem, steady)
    if is_safe and steady.is_optimal and problem.num_windows <= 1:
        return steady
    return _safer(problem, steady, _solve_windows(problem, _effort(problem, steady)))


def solve_in_time(problem: PlacementProblem) -> PlacementSolution:
    """Return what `solve` finds in a time that is worth it for so long a run."""
    return _solve_windows(problem, _effort(problem, partition(problem)))


def candidates(problem: PlacementProblem) -> list[PlacementSolution]:
    """Return the answers of which a simulation of their runs is to choose: what the search finds, with steps split over
    workers and without, a partition, and all workers on one step after the other. Among those that simulate alike the
    first counts: what is found, if it is better than a partition by a margin."""
    steady = partition(problem)
    effort = _effort(problem, steady)
    if len(problem.llm_nodes) > MAX_DP_LLM_NODES:
        effort /= 2  # either search takes as long as all of a smaller plan
    found = _solve_windows(problem, effort)
    whole = _solve_unsplit(problem, effort, found.lower_bound)
    best = min((found, whole), key=lambda one: whole_makespan_s(problem, one))
    return [_safer(problem, steady, best), found, whole, steady, operator_wise(problem)]


def _solve_unsplit(problem: PlacementProblem, effort: float, lower_bound: float) -> PlacementSolution:
    """Return what is found where no step is split over replicas, as Halo's planner has it: of far fewer plans, a better
    one may be found in time. `lower_bound`: what is proven of the plans with split steps."""
    unsplit = replace(problem, llm_nodes=tuple(replace(node, max_replicas=1) for node in problem.llm_nodes))
    found = _solve_windows(unsplit, effort)
    return replace(found, lower_bound=min(lower_bound, found.value), is_optimal=False)


def _safer(problem: PlacementProblem, steady: PlacementSolution, found: PlacementSolution) -> PlacementSolution:
    """Return what was found, for the makespan only if it is better than a partition by more than what its turns may
    take beyond the estimate."""
    if problem.objective is not Objective.MAKESPAN or has_turns(problem, steady):
        return found
    margin = TURNS_MARGIN if has_turns(problem, found) else 0.0
    return steady if whole_makespan_s(problem, steady) <= whole_makespan_s(problem, found) * (1 + margin) else found


def _solve_windows(problem: PlacementProblem, effort: float) -> PlacementSolution:
    """Return what `solve` finds; for many windows, with half of the effort, what is best for one, and with the other
    half what is better for all."""
    if problem.num_windows <= 1:
        return solve(problem, effort)
    return solve_windows(problem, solve(problem, effort / 2), effort / 2)


def _effort(problem: PlacementProblem, steady: PlacementSolution) -> float:
    return min(1.0, MAX_SEARCH_SHARE * whole_makespan_s(problem, steady) / FULL_SEARCH_S)


def has_turns(problem: PlacementProblem, placement: PlacementSolution) -> bool:
    """Return whether some replica needs room for more models than it has."""
    models = {node.name: node.model for node in problem.llm_nodes}
    return any(
        len({models[node] for node in placement.timeline.order_on(replica.name)}) > replica.max_resident
        for replica in problem.replicas
    )


SOLVERS: Mapping[str, Solver] = {
    AUTO: solve_to_run,
    "least": solve_in_time,
    "round_robin": round_robin,
    "operator_wise": operator_wise,
    "min_switch": min_switch,
    "heft": heft,
    "halo_dp": halo_dp,
    "partition": partition,
}


def solver_named(name: str) -> Solver:
    """Return the solver called `name`; ConfigError for an unknown name."""
    if name not in SOLVERS:
        raise ConfigError(f"unknown placement '{name}'", hint=suggest(name, SOLVERS))
    return SOLVERS[name]
