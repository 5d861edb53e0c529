"""A sequence that is done for one window of rows after another, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sundog.optimizer.placement.baselines import operator_wise, partition
from sundog.optimizer.placement.choose import has_turns, solve_in_time
from sundog.optimizer.placement.indexed import Indexed
from sundog.optimizer.placement.problem import LLMNode, Model, PlacementProblem, PlacementSolution, Replica
from sundog.optimizer.placement.windows import AllWindows, assigned_steps

LOAD_S, WAVE_S = 10.0, 5.0


def chain(*models: str, num_replicas: int, num_windows: float = 1.0) -> PlacementProblem:
    """Steps of two waves each, in a row."""
    nodes = [
        LLMNode(f"step_{place}", model, 2 * WAVE_S, (f"step_{place - 1}",) if place else (), 0.0, 2, WAVE_S, WAVE_S)
        for place, model in enumerate(models)
    ]
    names = sorted(set(models))
    return PlacementProblem(
        tuple(nodes),
        (),
        tuple(Model(name, LOAD_S, LOAD_S + WAVE_S) for name in names),
        tuple(Replica(f"gpu-{number}", frozenset(names)) for number in range(num_replicas)),
        num_windows=num_windows,
    )


def whole_s(problem: PlacementProblem, found: PlacementSolution) -> float:
    windows, steps = AllWindows(problem), assigned_steps(Indexed(problem), found)
    assert windows.makespan_s(steps) == windows.value(steps) == windows.score_of(steps)[0]
    return windows.value(steps)


@pytest.mark.parametrize(
    ("num_windows", "expected_s"), [(1.0, 45.0), (2.0, 95.0), (4.0, 195.0), (2.5, 120.0), (1.5, 70.0)]
)
def test_engines_that_take_turns_do_so_in_each_window(num_windows: float, expected_s: float) -> None:
    """The first window takes a load, a switch of 15 s and 20 s of work. Later ones find the second engine, and take two
    switches."""
    problem = chain("a", "b", num_replicas=1, num_windows=num_windows)
    assert whole_s(problem, operator_wise(problem)) == pytest.approx(expected_s)


def test_rows_flow_from_window_to_window_through_engines_that_stay() -> None:
    """Each worker has a step; a row takes two waves, as long as a window occupies either worker. The next window begins
    when the first rows of the one before have ended."""
    problem = chain("a", "b", num_replicas=2, num_windows=10)
    assert whole_s(problem, partition(problem)) == pytest.approx(LOAD_S + WAVE_S + 10 * 2 * WAVE_S)


def test_turns_that_pay_once_need_not_pay_for_each_window() -> None:
    """A step of 40 s and one of 5. Once it pays that both workers do the first and one of them loads for the second;
    again and again that one would load twice for each window."""
    first, second = chain("a", "b", num_replicas=2).llm_nodes
    nodes = (replace(first, exec_s=40.0), replace(second, exec_s=5.0))
    once = replace(chain("a", "b", num_replicas=2), llm_nodes=nodes)
    assert has_turns(once, solve_in_time(once))
    often = replace(once, num_windows=20.0)
    found = solve_in_time(often)
    assert not has_turns(often, found)
    assert whole_s(often, found) == pytest.approx(LOAD_S + 20 * 40.0 + WAVE_S, rel=0.02)
