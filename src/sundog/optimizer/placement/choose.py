"""Which solver answers: the one rule, so that it can be read and reported (`Placement.solver`)."""

from __future__ import annotations

from sundog.optimizer.placement.beam import solve_beam
from sundog.optimizer.placement.dp import solve_dp
from sundog.optimizer.placement.problem import Placement, PlacementProblem

MAX_DP_LLM_NODES = 20


def place(problem: PlacementProblem) -> Placement:
    """The dynamic program up to 20 LLM nodes, which yields to the beam when it runs out of states; else the beam."""
    return solve_dp(problem) if len(problem.llm_nodes) <= MAX_DP_LLM_NODES else solve_beam(problem)
