"""Halo's dynamic program: its costs by hand, its answers where they can be told, and that it ends."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations
from math import inf
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sundog.errors import ConfigError
from sundog.optimizer.placement.choose import SOLVERS
from sundog.optimizer.placement.halo.costs import HaloConstants, HaloCosts, Lane
from sundog.optimizer.placement.halo.dp import MAX_LLM_NODES, halo_dp, halo_epochs
from sundog.optimizer.placement.indexed import Indexed
from sundog.optimizer.placement.problem import LLMNode, Model, PlacementProblem, Replica, ToolNode
from sundog.optimizer.placement.simulate import simulate
from tests.optimizer.placement.plans import small_plan

Epochs = list[list[tuple[int, int]]]
FRESH = (0, -1, -1)


def problem(
    llm: list[LLMNode], tools: list[ToolNode] | None = None, num_workers: int = 2, load_s: float = 5
) -> PlacementProblem:
    """Workers that serve the models a and b, none loaded."""
    models = (Model("a", load_s, load_s), Model("b", load_s, load_s))
    workers = tuple(Replica(f"r{number}", frozenset("ab")) for number in range(num_workers))
    return PlacementProblem(tuple(llm), tuple(tools or []), models, workers)


def chain(x_s: float, y_s: float, load_s: float = 5) -> PlacementProblem:
    return problem([LLMNode("x", "a", x_s), LLMNode("y", "a", y_s, ("x",))], load_s=load_s)


@pytest.mark.parametrize(
    ("epoch", "tools", "batch", "lanes", "expected"),
    [
        pytest.param(0, 0, (0,), (FRESH,), 1 + 40 + 2.5, id="the first load is half of one"),
        pytest.param(0, 0, (0,), ((0, 1, -1),), 1 + 40 + 5, id="a switch is a whole one"),
        pytest.param(0, 0, (0,), ((0, 0, -1),), 1 + 40, id="the model is there"),
        pytest.param(2, 0, (0,), ((0, 0, -1),), 1.2 + 40, id="later epochs cost more"),
        pytest.param(1, 0, (1,), ((0, 0, 0),), 1.1 + 0.9 * 10, id="right after its parent"),
        pytest.param(1, 0, (1,), ((0, 0, 2),), 1.1 + 10, id="after another node"),
        pytest.param(
            0, 0, (0, 2), (FRESH, FRESH), 1 + 0.9 * 42.5 + 0.1 * (42.5 + 22.5), id="the longest worker, and the sum"
        ),
        pytest.param(
            0, 0, (0, 1), (FRESH, FRESH), 1 + 0.9 * 42.5 + 0.1 * (42.5 + 12.5) + 1, id="a chain inside of an epoch"
        ),
        pytest.param(0, 0b1000, (2,), ((0, 1, -1),), 1 + 20 + 3 * 2, id="a tool's one call, three times in epoch 0"),
        pytest.param(3, 0b1000, (2,), ((0, 1, -1),), 1.3 + 20 + 1.5 * 2, id="half as much in epoch 3"),
    ],
)
def test_what_an_epoch_costs(
    epoch: int, tools: int, batch: tuple[int, ...], lanes: tuple[Lane, ...], expected: float
) -> None:
    llm = [LLMNode("x", "a", 40), LLMNode("y", "a", 10, ("x",)), LLMNode("z", "b", 20, ("t",))]
    given_problem = problem(llm, [ToolNode("t", 30, wave_s=2)])
    costs = HaloCosts(Indexed(given_problem), HaloConstants())
    assert costs.epoch_s(epoch, tools, batch, lanes) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("done", "epoch", "expected"),
    [
        pytest.param(0b111, 4, 0, id="nothing is left"),
        pytest.param(0, 0, 1 + 1.1 + max(0.9 * 35 + 0.1 * 70, 0.9 * 2 * 10), id="the work, spread evenly"),
        pytest.param(0b100, 0, 1 + max(0.9 * 25 + 0.1 * 50, 0.9 * 2 * 10), id="of what is left"),
        pytest.param(0b011, 5, 1.5 + max(0.9 * 10 + 0.1 * 20, 0.9 * 20), id="the path"),
    ],
)
def test_the_bound(done: int, epoch: int, expected: float) -> None:
    llm = [LLMNode("x", "a", 40), LLMNode("y", "a", 10, ("x",)), LLMNode("z", "b", 20)]
    costs = HaloCosts(Indexed(problem(llm)), HaloConstants())
    assert costs.bound_s(done, epoch) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given_problem", "expected"),
    [
        pytest.param(problem([LLMNode("x", "a", 40), LLMNode("y", "b", 10)]), [["x", "y"]], id="side by side"),
        # Together 43 + 0.55 of a load, one after the other 51.1 + 0.5 of it.
        pytest.param(chain(40, 10, load_s=160), [["x", "y"]], id="a chain in one epoch, as a pipeline"),
        pytest.param(chain(40, 10, load_s=164), [["x"], ["y"]], id="a second load is not worth it"),
    ],
)
def test_the_epochs_of_tiny_problems(given_problem: PlacementProblem, expected: list[list[str]]) -> None:
    ix = Indexed(given_problem)
    assert [sorted(ix.names[node] for node, _ in epoch) for epoch in halo_epochs(ix)] == expected


def test_a_chain_in_two_epochs_stays_on_its_worker() -> None:
    first, second = halo_epochs(Indexed(chain(40, 10, load_s=164)))
    assert first[0][1] == second[0][1]


def test_the_loaded_model_is_used() -> None:
    workers = tuple(Replica(f"r{number}", frozenset("ab"), (model,)) for number, model in enumerate("ab"))
    llm = (LLMNode("x", "b", 10), LLMNode("y", "a", 10))
    found = halo_dp(PlacementProblem(llm, (), (Model("a", 5, 5), Model("b", 5, 5)), workers))
    assert found.timeline.model_loads == ()


def test_a_worker_that_serves_one_model_waits_for_its_nodes() -> None:
    """No set of two or three nodes can be served at once, so that smaller ones are tried."""
    workers = (Replica("r0", frozenset("a"), ("a",)), Replica("r1", frozenset("b"), ("b",)))
    llm = tuple(LLMNode(name, "a", 10) for name in "xyz")
    found = halo_dp(PlacementProblem(llm, (), (Model("a", 5, 5), Model("b", 5, 5)), workers))
    assert sorted(found.timeline.order_on("r0")) == ["x", "y", "z"]
    assert found.timeline.order_on("r1") == ()


def test_one_worker_runs_the_nodes_of_a_model_one_after_another() -> None:
    llm = [LLMNode(name, model, 10) for name, model in zip("vwxy", "abab", strict=True)]
    assert len(halo_dp(problem(llm, num_workers=1)).timeline.model_loads) == 2


def test_no_llm_nodes() -> None:
    assert halo_dp(problem([], [ToolNode("s", 2), ToolNode("t", 3, ("s",))])).value == 5


def test_its_name_is_one_of_the_placements() -> None:
    found = SOLVERS["halo_dp"](chain(40, 10))
    assert found.solver == "halo_dp"


def side_by_side(num_llm: int) -> PlacementProblem:
    llm = [LLMNode(f"n{number}", "ab"[number % 2], 10 + number) for number in range(num_llm)]
    return problem(llm, num_workers=8)


def test_what_does_not_end_is_given_up() -> None:
    with pytest.raises(ConfigError, match="not ended after 2,000 candidates") as raised:
        halo_epochs(Indexed(side_by_side(30)), max_candidates=2000)
    assert "auto" in str(raised.value.hint)


def test_too_many_nodes_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=f"{MAX_LLM_NODES + 1} LLM steps are more"):
        halo_dp(side_by_side(MAX_LLM_NODES + 1))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(min_value=0, max_value=10**6))
def test_each_llm_node_is_on_one_worker_and_the_placement_is_valid(seed: int) -> None:
    given_problem = small_plan(Random(seed), 6)
    found = halo_dp(given_problem)
    assert simulate(given_problem, found.sequence) == found.timeline  # and it raises for what is no placement
    names = {node.name for node in given_problem.llm_nodes}
    assert all(len(step.replicas) == (step.node in names) for step in found.sequence)
    assert found == halo_dp(given_problem)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(min_value=0, max_value=10**6))
def test_nothing_costs_less_where_the_bound_holds(seed: int) -> None:
    """Nodes without parents: no reuse and no chain, which the published bound does not take into account."""
    chance = Random(seed)
    llm = [LLMNode(f"n{number}", chance.choice("ab"), chance.randint(1, 30)) for number in range(chance.randint(1, 4))]
    ix = Indexed(problem(llm, load_s=chance.randint(0, 20)))
    least = min(cost_of(ix, epochs) for epochs in all_epochs(ix, 0))
    assert cost_of(ix, halo_epochs(ix)) == pytest.approx(least)


def cost_of(ix: Indexed, epochs: Epochs) -> float:
    """The costs of epochs without tools, added up."""
    costs, lanes, total_s = HaloCosts(ix, HaloConstants()), [FRESH] * ix.num_replicas, 0.0
    for number, epoch in enumerate(epochs):
        nodes, replicas = zip(*epoch, strict=True)
        total_s += costs.epoch_s(number, 0, nodes, [lanes[replica] for replica in replicas])
        for node, replica in epoch:
            lanes[replica] = (0, ix.model[node], node)
    return total_s if epochs else inf


def all_epochs(ix: Indexed, done: int) -> Iterator[Epochs]:
    """Every way to run nodes without parents: at most one fewer at once than could run."""
    left = [node for node in range(ix.num_llm) if not done >> node & 1]
    if not left:
        yield []
    most = min(len(left), ix.num_replicas)
    for size in range(max(1, most - 1), most + 1) if left else ():
        for batch in combinations(left, size):
            for replicas in permutations(range(ix.num_replicas), size):
                mask = sum(1 << node for node in batch)
                for later in all_epochs(ix, done | mask):
                    yield [list(zip(batch, replicas, strict=True)), *later]
