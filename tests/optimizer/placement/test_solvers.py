from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sundog.optimizer.placement import beam, choose
from sundog.optimizer.placement.baselines import heft, min_switch, operator_wise, partition, round_robin
from sundog.optimizer.placement.beam import solve_beam
from sundog.optimizer.placement.choose import MAX_DP_LLM_NODES, TURNS_MARGIN, solve
from sundog.optimizer.placement.choose import SOLVERS as BY_NAME
from sundog.optimizer.placement.dp import solve_dp
from sundog.optimizer.placement.halo.dp import halo_dp
from sundog.optimizer.placement.indexed import Indexed
from sundog.optimizer.placement.objective import Objective
from sundog.optimizer.placement.problem import (
    LLMNode,
    Model,
    PlacementProblem,
    PlacementSolution,
    Replica,
    Solver,
    ToolNode,
)
from sundog.optimizer.placement.schedule import Schedule
from sundog.optimizer.placement.simulate import simulate
from tests.optimizer.placement.plans import random_plan, small_plan

BASELINES = (round_robin, operator_wise, min_switch, heft, partition)
SOLVERS = (solve_dp, solve_beam, halo_dp, *BASELINES)

seeds = st.integers(min_value=0, max_value=10**6)
objectives = st.sampled_from(Objective)


def on(*resident: str, models: str = "ab", max_resident: int = 1, usd_per_s: float = 1) -> tuple[Replica, ...]:
    return tuple(
        Replica(f"r{number}", frozenset(models), tuple(names), max_resident, usd_per_s)
        for number, names in enumerate(resident)
    )


def problem(
    llm: list[LLMNode], tools: list[ToolNode], replicas: tuple[Replica, ...], objective: Objective = Objective.MAKESPAN
) -> PlacementProblem:
    models = (Model("a", 5, 5), Model("b", 5, 5))
    return PlacementProblem(tuple(llm), tuple(tools), models, replicas, objective)


def replicas_of(placement: PlacementSolution, node: str) -> tuple[str, ...]:
    return next(step.replicas for step in placement.sequence if step.node == node)


def test_dp_splits_the_hot_operator_over_all_replicas() -> None:
    nodes = [LLMNode("x", "a", 40, max_replicas=4), LLMNode("y", "a", 4, ("x",))]
    found = solve_dp(problem(nodes, [], on("a", "a", "a", "a")))
    assert replicas_of(found, "x") == ("r0", "r1", "r2", "r3")
    assert (found.value, found.solver, found.is_optimal) == (14, "dp", True)


def test_dp_runs_a_child_where_its_parents_kv_is() -> None:
    nodes = [LLMNode("x", "a", 10), LLMNode("z", "a", 8), LLMNode("y", "a", 10, ("x",), kv_saved_share=0.5)]
    found = solve_dp(problem(nodes, [], on("a", "a")))
    assert replicas_of(found, "y") == replicas_of(found, "x")
    assert found.value == 15


def test_dp_keeps_models_where_they_are() -> None:
    nodes = [LLMNode(name, model, 10) for name, model in zip("vwxy", "abab", strict=True)]
    found = solve_dp(problem(nodes, [], on("a", "b")))
    assert found.timeline.model_loads == ()
    assert found.value == 20


def test_dp_uses_room_for_two_models() -> None:
    nodes = [LLMNode("x", "a", 10), LLMNode("y", "b", 10, ("x",)), LLMNode("z", "a", 10, ("y",))]
    one, two = (solve_dp(problem(nodes, [], on("a", max_resident=room))).value for room in (1, 2))
    assert (one, two) == (40, 35)


@pytest.mark.parametrize(
    ("resident", "exec_s", "expected"),
    [
        pytest.param(("a", "a", "b"), (20, 10), {"a": ("r0", "r1"), "b": ("r2",)}, id="where they are loaded"),
        pytest.param(("a", "a", "a"), (90, 1), {"a": ("r0", "r2"), "b": ("r1",)}, id="each has one at least"),
        pytest.param(("", "", "", ""), (10, 31), {"a": ("r1",), "b": ("r0", "r2", "r3")}, id="as many as its work is"),
        pytest.param(("a",), (20, 10), {"a": ("r0",), "b": ("r0",)}, id="more models than replicas"),
    ],
)
def test_a_partition_gives_each_model_its_share(
    resident: tuple[str, ...], exec_s: tuple[float, float], expected: dict[str, tuple[str, ...]]
) -> None:
    nodes = [
        LLMNode(model, model, seconds, max_replicas=len(resident)) for model, seconds in zip("ab", exec_s, strict=True)
    ]
    found = partition(problem(nodes, [], on(*resident)))
    assert {node.name: replicas_of(found, node.name) for node in nodes} == expected


def test_a_chain_whose_rows_flow_keeps_each_model_where_it_is() -> None:
    """Whole steps take on each replica 40 s of work and three loads; flowing ones the work of each model, and two
    waves."""
    nodes = [LLMNode("x", "a", 20), LLMNode("y", "b", 40, ("x",)), LLMNode("z", "a", 20, ("y",))]
    whole = solve_dp(problem([replace(node, max_replicas=2) for node in nodes], [], on("a", "b")))
    flowing = solve_dp(problem([replace(node, max_replicas=2, wave_s=1) for node in nodes], [], on("a", "b")))
    assert whole.value == 55
    assert flowing.timeline.model_loads == ()
    assert flowing.value == 42


def test_dp_plans_tools_before_between_and_after_the_llm_nodes() -> None:
    nodes = [LLMNode("x", "a", 10, ("before",)), LLMNode("y", "a", 10, ("between",)), LLMNode("z", "a", 10)]
    tools = [
        ToolNode("before", 2, pool="p"),
        ToolNode("between", 5, ("x",), pool="p"),
        ToolNode("after", 7, ("y",), pool="p"),
        ToolNode("alone", 1, pool="p"),
    ]
    found = solve_dp(problem(nodes, tools, on("a", "a")))
    assert found.value == 34  # before, x, between, y, after; the pool takes `alone` while x runs
    assert found.is_optimal


@pytest.mark.parametrize("solver", SOLVERS)
def test_plans_without_llm_nodes_or_without_nodes(solver: Solver) -> None:
    assert solver(problem([], [ToolNode("s", 2), ToolNode("t", 3, ("s",))], ())).value == 5
    assert solver(problem([], [ToolNode("s", 2), ToolNode("t", 3)], on("a"))).value == 3
    assert solver(problem([], [ToolNode("s", 2, pool="p"), ToolNode("t", 3, pool="p")], on("a"))).value == 5
    assert solver(problem([], [], on("a"))).value == 0


def test_cost_takes_the_cheap_replica_and_makespan_both() -> None:
    nodes = [LLMNode("x", "a", 10), LLMNode("y", "a", 10)]
    replicas = (
        Replica("dear", frozenset("a"), ("a",), usd_per_s=3),
        Replica("cheap", frozenset("a"), ("a",), usd_per_s=1),
    )
    cost = solve_dp(problem(nodes, [], replicas, Objective.COST))
    assert (cost.value, cost.timeline.order_on("dear")) == (20, ())
    assert solve_dp(problem(nodes, [], replicas)).value == 10


def test_mean_completion_runs_the_short_first() -> None:
    nodes = [LLMNode("long", "a", 30), LLMNode("short", "a", 2)]
    found = solve_dp(problem(nodes, [], on("a"), Objective.MEAN_COMPLETION))
    assert [step.node for step in found.sequence] == ["short", "long"]
    assert found.value == (2 + 32) / 2


@settings(max_examples=12, deadline=None)
@given(seed=seeds, objective=objectives)
def test_every_solver_gives_a_valid_placement_and_the_search_none_worse_than_a_baseline(
    seed: int, objective: Objective
) -> None:
    given_problem = small_plan(Random(seed), 4, objective)
    answers = {solver.__name__: solver(given_problem) for solver in SOLVERS}
    for found in answers.values():
        assert simulate(given_problem, found.sequence) == found.timeline  # and it raises for what is no placement
        assert found.lower_bound <= found.value
    least = min(answers[solver.__name__].value for solver in BASELINES)
    assert max(answers["solve_dp"].value, answers["solve_beam"].value) <= least * (1 + 1e-9)
    if answers["solve_dp"].is_optimal:
        assert answers["solve_dp"].value <= answers["solve_beam"].value * (1 + 1e-9)


@settings(max_examples=12, deadline=None)
@given(seed=seeds)
def test_the_names_and_order_of_equal_replicas_do_not_matter(seed: int) -> None:
    given_problem = small_plan(Random(seed), 4)
    turned = tuple(replace(replica, name=f"other {replica.name}") for replica in reversed(given_problem.replicas))
    first, second = solve_dp(given_problem), solve_dp(replace(given_problem, replicas=turned))
    if first.is_optimal and second.is_optimal:
        assert first.value == pytest.approx(second.value)


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_same_problem_gives_the_same_answer(solver: Solver) -> None:
    given_problem = small_plan(Random(7), 4)
    assert solver(given_problem) == solver(given_problem)


def test_out_of_states_the_beam_answers_and_says_so() -> None:
    given_problem = small_plan(Random(2), 5)
    short, whole = solve_dp(given_problem, effort=0), solve_dp(given_problem)
    assert short.solver == "beam"
    assert short.lower_bound <= whole.value <= short.value * (1 + 1e-9)


def test_the_beam_keeps_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beam, "PLACEMENTS_PER_NODE_OF_FEW", 0)
    root = Schedule(Indexed(problem([LLMNode("x", "a", 10, max_replicas=2)], [], on("a", "a"))))
    monkeypatch.setattr(beam, "beam_search", lambda root, width: [((0, (1,)),)])
    assert beam.beam_steps(root, [((0, (0, 1)),)], target=0) == ((0, (0, 1)),)


@pytest.mark.parametrize(("num_llm", "solver"), [(MAX_DP_LLM_NODES, "dp"), (MAX_DP_LLM_NODES + 1, "beam")])
def test_the_choice_of_the_solver(num_llm: int, solver: str) -> None:
    chain = [LLMNode(f"n{number}", "a", 1, (f"n{number - 1}",) if number else ()) for number in range(num_llm)]
    assert solve(problem(chain, [], on("a"))).solver == solver


CHAIN = [LLMNode("x", "a", 20, wave_s=1), LLMNode("y", "b", 20, ("x",), wave_s=1)]


def halves(x_s: float, y_s: float) -> list[LLMNode]:
    return [replace(node, exec_s=exec_s, max_replicas=2) for node, exec_s in zip(CHAIN, (x_s, y_s), strict=True)]


@pytest.mark.parametrize(
    ("nodes", "replicas", "objective", "solver"),
    [
        pytest.param(CHAIN, on("", ""), Objective.MAKESPAN, "partition", id="rows flow"),
        pytest.param(CHAIN, on("", ""), Objective.COST, "dp", id="only for the makespan"),
        pytest.param(CHAIN, on(""), Objective.MAKESPAN, "dp", id="one worker: turns"),
        pytest.param(CHAIN, on("", max_resident=2), Objective.MAKESPAN, "partition", id="one worker with room for two"),
        pytest.param(
            [replace(node, wave_s=inf) for node in CHAIN],
            on("", ""),
            Objective.MAKESPAN,
            "partition",
            id="one wave each",
        ),
        pytest.param(
            [replace(CHAIN[0], exec_s=300, max_replicas=2), CHAIN[1]],
            on("", ""),
            Objective.MAKESPAN,
            "dp",
            id="turns are far better",
        ),
        pytest.param(
            halves(100, 84), on("", ""), Objective.MAKESPAN, "partition", id="turns are hardly better: 102 s, not 106"
        ),
        pytest.param(halves(100, 60), on("", ""), Objective.MAKESPAN, "dp", id="turns are better: 90 s, not 106"),
    ],
)
def test_a_run_prefers_engines_that_stay(
    nodes: list[LLMNode], replicas: tuple[Replica, ...], objective: Objective, solver: str
) -> None:
    given_problem = problem(nodes, [], replicas, objective)
    found = BY_NAME["auto"](given_problem)
    assert found.solver == solver
    assert found.value <= (1 + TURNS_MARGIN) * solve(given_problem).value


def test_engines_that_stay_may_still_be_ordered_better() -> None:
    """The partition starts `u`, which can start first, and so keeps the other engine waiting."""
    llm = [
        LLMNode("u", "a", 20, wave_s=1),
        LLMNode("v", "a", 10, ("t",), wave_s=1),
        LLMNode("r", "b", 20, ("v",), wave_s=1),
    ]
    given_problem = problem(llm, [ToolNode("t", 1)], on("a", "b"))
    assert (partition(given_problem).value, BY_NAME["auto"](given_problem).value) == (41, 31)


@pytest.mark.parametrize(("exec_s", "effort"), [(15, 0.1), (1500, 1.0)])
def test_a_short_run_is_not_searched_for_long(monkeypatch: pytest.MonkeyPatch, exec_s: float, effort: float) -> None:
    asked: list[float] = []

    def spy(given_problem: PlacementProblem, effort: float) -> PlacementSolution:
        asked.append(effort)
        return solve(given_problem)

    monkeypatch.setattr(choose, "solve", spy)
    BY_NAME["auto"](problem([LLMNode("x", "a", exec_s)], [], on(""), Objective.COST))
    assert asked == [pytest.approx(effort)]


def test_the_effort_bounds_what_a_large_plan_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The beam and what is around it have looked at millions of steps, and the best that was known came back."""
    num_placed = 0

    def counted(schedule: Schedule, node: int, replicas: Sequence[int]) -> float:
        nonlocal num_placed
        num_placed += 1
        return append(schedule, node, replicas)

    append = Schedule.append
    monkeypatch.setattr(Schedule, "append", counted)
    num_llm, effort = 100, 0.05
    given_problem = random_plan(
        Random(1), num_llm=num_llm, num_tools=50, num_replicas=8, num_models=4, num_pools=2, split_share=1, flow_share=1
    )
    found = solve(given_problem, effort)
    assert num_placed <= effort * beam.PLACEMENTS_PER_NODE * num_llm + 20 * num_llm
    assert found.value < min(solver(given_problem).value for solver in BASELINES)


def test_forty_llm_nodes_are_placed() -> None:
    given_problem = random_plan(
        Random(1),
        num_llm=40,
        num_tools=20,
        num_replicas=8,
        num_models=3,
        num_pools=2,
        split_share=0.5,
        flow_share=0.5,
    )
    found = solve(given_problem)
    assert found.solver == "beam"
    assert found.value < heft(given_problem).value
