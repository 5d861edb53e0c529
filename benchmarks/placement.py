"""This benchmark measures how fast the physical planner places a plan, and how far its answers are from the exact
optimum.

Run in the repository's root: it takes its plans from the tests' generator. `python benchmarks/placement.py [NUM_PLANS]`
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from machine import save

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the tests' generator of plans

from sundog.errors import PlanError
from sundog.optimizer.placement.baselines import heft, min_switch, operator_wise, partition, round_robin
from sundog.optimizer.placement.choose import solve
from sundog.optimizer.placement.oracle import solve_oracle
from sundog.optimizer.placement.problem import PlacementProblem
from tests.optimizer.placement.plans import random_plan, small_plan

NUM_PLANS = 250
NUM_TIMED = 20
MAX_LLM_NODES = 9
BASELINES = (round_robin, operator_wise, min_switch, heft, partition)


def main() -> None:
    num_plans = int(sys.argv[1]) if len(sys.argv) > 1 else NUM_PLANS
    save(
        "placement",
        {
            "targets": "12 LLM + 12 tools on 8 replicas of 3 models < 1 s; 40 LLM < 2 s; gap mean <= 1 %, worst <= 5 %",
            "12_llm_12_tools_8_replicas_3_models": timed(12, 12),
            "40_llm_20_tools_8_replicas_3_models": timed(40, 20),
            "distance_to_the_optimum": distances(num_plans),
        },
    )


def timed(num_llm: int, num_tools: int) -> dict[str, Any]:
    wall_s, cpu_s, solvers, gaps = [], [], Counter[str](), []
    for seed in range(NUM_TIMED):
        problem = random_plan(
            Random(seed),
            num_llm=num_llm,
            num_tools=num_tools,
            num_replicas=8,
            num_models=3,
            num_pools=2,
            split_share=(0.0, 0.5, 1.0)[seed % 3],
            flow_share=(0.0, 1.0)[seed % 2],
        )
        begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
        placement = solve(problem)
        wall_s.append(time.perf_counter() - begin_s)
        cpu_s.append(time.process_time() - begin_cpu_s)
        solvers[placement.solver] += 1
        gaps.append(placement.value / placement.lower_bound - 1)
    return {
        "num_plans": NUM_TIMED,
        "wall_s": spread(wall_s),
        "cpu_s": spread(cpu_s),
        "solvers": dict(solvers),
        "above_own_lower_bound": spread(gaps),
    }


def distances(num_plans: int) -> dict[str, Any]:
    """Plans whose optimum the oracle cannot prove are counted, not hidden."""
    gaps: list[float] = []
    baselines: dict[str, list[float]] = {solver.__name__: [] for solver in BASELINES}
    solvers = Counter[str]()
    unproven: list[float] = []
    for seed in range(num_plans):
        problem = small_plan(Random(seed), MAX_LLM_NODES)
        placement = solve(problem)
        try:
            optimum = solve_oracle(problem, reached=placement.value).value
        except PlanError:
            unproven.append(above(placement.value, placement.lower_bound))
            continue
        solvers[placement.solver] += 1
        gaps.append(above(placement.value, optimum))
        for solver in BASELINES:
            baselines[solver.__name__].append(above(solver(problem).value, optimum))
        progress(seed, problem, gaps[-1])
    return {
        "num_plans": len(gaps),
        "num_without_proven_optimum": len(unproven),
        "those_above_their_own_lower_bound": spread(unproven or [0.0]),
        "solvers": dict(solvers),
        "num_optimal": sum(gap <= 1e-4 for gap in gaps),
        "gap": spread(gaps),
        "gap_of_baselines": {name: spread(found) for name, found in baselines.items()},
    }


def above(value: float, optimum: float) -> float:
    return value / optimum - 1 if optimum else 0.0


def spread(values: list[float]) -> dict[str, float]:
    return {"mean": round(statistics.mean(values), 4), "worst": round(max(values), 4)}


def progress(seed: int, problem: PlacementProblem, gap: float) -> None:
    print(f"plan {seed}: {len(problem.llm_nodes)} LLM nodes, {gap:.2%} above the optimum", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
