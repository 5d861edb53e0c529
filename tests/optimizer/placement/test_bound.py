from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from random import Random

import pytest

from sundog.optimizer.placement.bound import Bound
from sundog.optimizer.placement.dp import solve_dp
from sundog.optimizer.placement.indexed import Indexed
from sundog.optimizer.placement.moves import ScheduleShape, shape_and_times
from sundog.optimizer.placement.objective import Objective
from sundog.optimizer.placement.problem import LLMNode, Model, PlacementProblem, Replica
from sundog.optimizer.placement.schedule import Schedule
from tests.optimizer.placement.brute_force import optimum
from tests.optimizer.placement.plans import random_plan


def tiny_plan(seed: int, objective: Objective) -> PlacementProblem:
    """Every third one on replicas that hold two models, every second one with a model that one replica cannot serve."""
    stream = Random(seed)
    problem = random_plan(
        stream,
        num_llm=(num_llm := stream.randint(2, 4)),
        num_tools=stream.randint(0, 5 - num_llm),
        num_replicas=2,
        num_models=3,
        num_pools=1,
        split_share=stream.choice([0.0, 0.6]),
        flow_share=stream.choice([0.0, 0.7]),
        objective=objective,
    )
    replicas = list(problem.replicas)
    if seed % 3 == 0:
        replicas = [replace(replica, max_resident=2) for replica in replicas]
    if seed % 2 == 0:
        kept = replicas[0].models - {"m0"}
        replicas[0] = replace(replicas[0], models=kept, resident=tuple(m for m in replicas[0].resident if m in kept))
    return replace(problem, replicas=tuple(replicas))


@pytest.mark.parametrize("objective", Objective)
def test_no_bound_is_above_the_best_completion_and_the_search_finds_the_optimum(objective: Objective) -> None:
    num_states = 0
    for seed in range(150):
        problem = tiny_plan(seed, objective)
        bound = Bound(Schedule(Indexed(problem)))

        def admissible(schedule: Schedule, best: float, bound: Bound = bound, seed: int = seed) -> None:
            nonlocal num_states
            num_states += 1
            assert bound(schedule) <= best + 1e-9, f"seed {seed}, done {schedule.done:b}"

        best = optimum(problem, admissible)
        found = solve_dp(problem)
        assert found.value == pytest.approx(best)
        assert found.is_optimal
        assert found.lower_bound <= best + 1e-9
    assert num_states > 1000


@pytest.mark.parametrize("objective", Objective)
def test_a_schedule_that_is_no_later_can_be_completed_as_well(objective: Objective) -> None:
    """The search relies on this when it drops a schedule; replicas in equal states are never told apart."""
    num_pairs = 0
    for seed in range(300):
        shapes: dict[ScheduleShape, dict[tuple[float, ...], float]] = {}

        def keep(
            schedule: Schedule, best: float, shapes: dict[ScheduleShape, dict[tuple[float, ...], float]] = shapes
        ) -> None:
            shape, times = shape_and_times(schedule)
            assert shapes.setdefault(shape, {}).setdefault(times, best) == pytest.approx(best)

        optimum(tiny_plan(seed, objective), keep)
        for found in shapes.values():
            for (early, best), (late, other) in permutations(found.items(), 2):
                if all(a <= b for a, b in zip(early, late, strict=True)):
                    num_pairs += 1
                    assert best <= other + 1e-9, f"seed {seed}"
    assert num_pairs > 100


def test_replicas_with_other_models_are_told_apart() -> None:
    """Each has run a parent with the same model; beside it they hold different ones."""
    first, second = LLMNode("x", "a", 10), LLMNode("y", "a", 10)
    children = [LLMNode(f"{node.name} child", "a", 10, (node.name,), kv_saved_share=0.5) for node in (first, second)]
    models = tuple(Model(name, 1, 1) for name in "abc")
    replicas = tuple(Replica(f"with {name}", frozenset("abc"), (name,), max_resident=2) for name in "bc")
    ix = Indexed(PlacementProblem((first, second, *children), (), models, replicas))
    straight, crossed = (
        shape_and_times(Schedule(ix).play(steps)) for steps in ([(0, (0,)), (1, (1,))], [(0, (1,)), (1, (0,))])
    )
    assert straight != crossed


def test_the_bound_grants_the_kv_saving() -> None:
    """A bound that counts 10 + 10 would prune the optimum."""
    chain = (LLMNode("x", "a", 10), LLMNode("y", "a", 10, ("x",), kv_saved_share=0.5))
    problem = PlacementProblem(chain, (), (Model("a", 1, 1),), (Replica("r", frozenset("a"), ("a",)),))
    assert Bound(Schedule(Indexed(problem)))(Schedule(Indexed(problem))) == 15


def test_the_bound_counts_a_load_that_no_replica_is_spared() -> None:
    node = LLMNode("x", "a", 10)
    problem = PlacementProblem((node,), (), (Model("a", 3, 3),), (Replica("r", frozenset("a")),))
    assert Bound(Schedule(Indexed(problem)))(Schedule(Indexed(problem))) == 13
