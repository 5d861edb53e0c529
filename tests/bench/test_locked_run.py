"""The simulation of Halo's processor, by hand: calls of 4.8 s, 32 at once, loads of 0.75 s for each billion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from placed.cases import Case
from placed.graphs import CALL_S, Graph, GraphStep, load_s, published_graphs
from placed.known import known_session, planned, problem_of
from placed.locked_run import LockedRun, Ranks, Rule, after_lock, by_turns, ranks_of

from sundog.optimizer.placement.problem import Assignment, LLMNode, Model, PlacementProblem, PlacementSolution, Replica
from sundog.optimizer.placement.simulate import simulate

O20, Q14 = load_s("o20"), load_s("q14")
RULES = pytest.mark.parametrize("rule", [after_lock, by_turns])


def graph(*steps: GraphStep, http_s: float = 3.0) -> Graph:
    return Graph("g", steps, http_s)


def took(one: Graph, num_rows: int, rule: Rule, *orders: tuple[str, ...], tool_places: int = 32) -> tuple[float, int]:
    """Makespan and loads with the steps ranked as written."""
    ranks = Ranks({step.name: number for number, step in enumerate(one.steps)}, orders)
    run = LockedRun(Case(one, len(orders), num_rows, tool_places), ranks, rule)
    return run.makespan_s(), run.num_loads


X, Y = GraphStep("x", "o20", ()), GraphStep("y", "o20", ("x",))
Z = GraphStep("z", "q14", ("x",))
T = GraphStep("t", "http", ("x",))


@RULES
@pytest.mark.parametrize(
    ("one", "num_rows", "orders", "expected"),
    [
        pytest.param(graph(X), 64, [("x",)], (O20 + 2 * CALL_S, 1), id="two waves"),
        pytest.param(graph(X), 33, [("x",)], (O20 + 2 * CALL_S, 1), id="a call has its length, however few there are"),
        pytest.param(graph(X), 64, [("x",), ("x",)], (O20 + CALL_S, 2), id="a split step"),
        pytest.param(graph(X, Y), 64, [("x", "y")], (O20 + 4 * CALL_S, 1), id="a chain of one model"),
        pytest.param(graph(X, Y), 64, [("x",), ("y",)], (O20 + 3 * CALL_S, 2), id="a pipeline over two workers"),
        pytest.param(graph(X, Z), 64, [("x", "z")], (O20 + Q14 + 4 * CALL_S, 2), id="turns"),
        pytest.param(graph(X, Z), 64, [("x",), ("z",)], (O20 + 3 * CALL_S, 2), id="loaded before its rows come"),
        pytest.param(graph(X, T), 64, [("x",)], (O20 + 2 * CALL_S + 3, 1), id="a tool beside"),
    ],
)
def test_plain_plans(
    one: Graph, num_rows: int, orders: list[tuple[str, ...]], rule: Rule, expected: tuple[float, int]
) -> None:
    seconds, num_loads = took(one, num_rows, rule, *orders)
    assert seconds == pytest.approx(expected[0])
    assert num_loads == expected[1]


def test_the_first_step_of_the_plan_goes_first() -> None:
    """Both are ready; `second` feeds the other worker, which only it keeps waiting."""
    other = GraphStep("other", "o20", ())
    second = GraphStep("second", "o20", ())
    end = GraphStep("end", "q14", ("second",))
    ahead = took(graph(second, other, end), 64, by_turns, ("second", "other"), ("end",))
    behind = took(graph(other, second, end), 64, by_turns, ("other", "second"), ("end",))
    assert ahead[0] == pytest.approx(O20 + 4 * CALL_S)
    assert behind[0] == pytest.approx(O20 + 5 * CALL_S)


def test_the_lock_falls_when_nothing_of_the_model_is_ready_and_turns_wait() -> None:
    """Between `x` and `y` on one worker a slow tool: Halo's worker loads for `z` meanwhile, and then once more."""
    slow = graph(X, T, replace(Y, parents=("t",)), Z, http_s=30.0)
    by_turns_s, num_turns = took(slow, 32, by_turns, ("x", "y", "z"))
    locked_s, num_loads = took(slow, 32, after_lock, ("x", "y", "z"))
    assert (num_turns, num_loads) == (2, 3)
    assert by_turns_s == pytest.approx(O20 + CALL_S + 30 + CALL_S + Q14 + CALL_S)
    assert locked_s == pytest.approx(2 * (O20 + CALL_S) + Q14 + CALL_S)


@RULES
def test_a_row_comes_in_as_another_one_ends(rule: Rule) -> None:
    """Only 32 of 96 rows are in flight: one wave of each step at a time, and a load for each turn of each window."""
    case = Case(graph(X, Z), 1, 96, max_rows_in_flight=32)
    run = LockedRun(case, Ranks({"x": 0, "z": 1}, [("x", "z")]), rule)
    assert run.makespan_s() == pytest.approx(3 * (O20 + Q14 + 2 * CALL_S))
    assert run.num_loads == 6


def test_tools_of_a_kind_share_their_places() -> None:
    both = graph(GraphStep("s", "http", ()), GraphStep("t", "http", ()))
    case, ranks = Case(both, 0, 8, tool_places=4), Ranks({"s": 0, "t": 1}, ())
    assert LockedRun(case, ranks, by_turns).makespan_s() == pytest.approx(4 * 3.0)
    assert LockedRun(case, ranks, by_turns, shares_tools=False).makespan_s() == pytest.approx(2 * 3.0)


def test_a_plan_that_leaves_a_step_out_is_told() -> None:
    with pytest.raises(RuntimeError, match="calls are left of y"):
        took(graph(X, Y), 4, by_turns, ("x",))


def test_a_tool_ranks_with_the_first_step_that_needs_it() -> None:
    one = graph(
        GraphStep("late", "http", ()),
        GraphStep("early", "http", ()),
        GraphStep("before", "sql", ("early",)),
        GraphStep("a", "o20", ("before",)),
        GraphStep("b", "o20", ("late",)),
        GraphStep("after", "sql", ("b",)),
    )
    nodes = (LLMNode("a", "o20", 1), LLMNode("b", "o20", 1))
    problem = PlacementProblem(nodes, (), (Model("o20", 1, 1),), (Replica("gpu-0", frozenset({"o20"})),))
    sequence = (Assignment("a", ("gpu-0",)), Assignment("b", ("gpu-0",)))
    found = PlacementSolution(sequence, simulate(problem, sequence), "by hand", 0, False)
    assert ranks_of(one, found, ["gpu-0"]) == Ranks(
        {"a": 0, "b": 1, "late": 1, "early": 0, "before": 0, "after": 2}, [("a", "b")]
    )


@pytest.mark.parametrize(
    ("name", "num_workers", "num_rows", "solver", "rule", "expected"),
    [
        ("w2", 4, 200, "halo_dp", after_lock, 120.0),
        ("w4", 4, 50, "halo_dp", after_lock, 53.4),
        ("w1", 4, 500, "partition", by_turns, 186.0),
    ],
)
def test_the_figures_of_an_independent_simulation(
    name: str, num_workers: int, num_rows: int, solver: str, rule: Rule, expected: float, tmp_path: Path
) -> None:
    """Another program found them, with tools that never wait."""
    case = Case(published_graphs()[name], num_workers, num_rows, tool_places=256)
    problem = problem_of(known_session(case, tmp_path))
    found, _ = planned(problem, solver)
    ranks = ranks_of(case.graph, found, [replica.name for replica in problem.replicas])
    assert LockedRun(case, ranks, rule).makespan_s() == pytest.approx(expected, abs=0.05)
