"""The graphs that are placed on workers: they are the published ones, and what runs is what is planned."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from placed.cases import Case, published_cases, random_cases
from placed.graphs import Graph, GraphStep, published_graphs, random_graph
from placed.known import known_session, planned, problem_of, run

GRAPHS = published_graphs()
CHAIN = Graph(
    "chain",
    (
        GraphStep("first", "o20", ()),
        GraphStep("found", "http", ("first",)),
        GraphStep("second", "q14", ("found", "first")),
    ),
    3.0,
)


@pytest.mark.parametrize(
    ("name", "num_llm", "num_tools"),
    [("w1", 8, 9), ("w2", 10, 3), ("w3", 9, 6), ("w4", 9, 3), ("w5", 7, 10), ("w6", 9, 13)],
)
def test_the_published_graphs_have_the_published_steps(name: str, num_llm: int, num_tools: int) -> None:
    steps = GRAPHS[name].steps
    assert (sum(step.is_llm for step in steps), sum(not step.is_llm for step in steps)) == (num_llm, num_tools)


@pytest.mark.parametrize(
    "graph", [*GRAPHS.values(), *(random_graph(Random(seed), "r", 4 + seed) for seed in range(20))]
)
def test_steps_read_earlier_ones(graph: Graph) -> None:
    names = [step.name for step in graph.steps]
    assert len(set(names)) == len(names)
    for number, step in enumerate(graph.steps):
        assert set(step.parents) <= set(names[:number])


def test_there_are_72_published_cases_and_100_random_ones_and_they_stay_the_same() -> None:
    assert len({case.name for case in published_cases()}) == 72
    assert len({case.name for case in random_cases()}) == 100
    assert list(random_cases()) == list(random_cases())


def test_the_problem_has_the_true_seconds(tmp_path: Path) -> None:
    problem = problem_of(known_session(Case(CHAIN, 2, 64), tmp_path))
    assert {node.name: (node.exec_s, node.wave_s) for node in problem.nodes} == {
        "first": pytest.approx((64 * 0.15, 4.8)),
        "second": pytest.approx((64 * 0.15, 4.8)),
        "found": pytest.approx((64 * 3 / 32, 3)),
    }
    assert {model.load_s for model in problem.models} == {20 * 0.75, 14 * 0.75}
    assert len(problem.replicas) == 2


def test_a_run_takes_what_is_planned_where_the_plan_is_plain(tmp_path: Path) -> None:
    """One worker for each engine: a load, two waves of the first step, the tool, and a wave of the second."""
    case = Case(CHAIN, 2, 64)
    placement, _ = planned(problem_of(known_session(case, tmp_path)), "auto")
    folder = tmp_path / "run"
    folder.mkdir()
    ran = run(case, folder)
    assert ran.makespan_s == pytest.approx(15 + 2 * 4.8 + 3 + 4.8)
    assert ran.num_loads == 2
    assert placement.value == pytest.approx(ran.makespan_s)
