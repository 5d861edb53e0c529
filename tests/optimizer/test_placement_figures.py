"""A plan and its figures become a placement problem, and its solution a plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import sundog as sd
from sundog.cost.estimate import Estimate
from sundog.cost.history import ASSUMED_CALL_S, ASSUMED_TOOL_S
from sundog.cost.node_cost import CallCost, RowSample
from sundog.cost.plan_estimate import NodeEstimate, PlanEstimate
from sundog.cost.tables.sampled_table import TableEstimate
from sundog.ir.logical import WorkerGroup, steps_of
from sundog.ir.physical import PhysicalPlan, calls_of
from sundog.operators.base import OPERATORS
from sundog.optimizer.place_steps import place_steps
from sundog.optimizer.placement.problem import LLMNode, Model, ToolNode
from sundog.optimizer.placement_figures import (
    MeasuredCalls,
    PlacementFigures,
    PoolReplicas,
    figures_of,
)
from sundog.optimizer.placement_of_plan import placement_problem
from sundog.optimizer.planner import plan_physical

GPU = WorkerGroup("gpu", 2)
ROWS = TableEstimate("", RowSample(10, 100), Estimate.exactly(100), Estimate.exactly(100), is_known=True)
PLACES = [
    PoolReplicas("engine:small", GPU, 2),
    PoolReplicas("engine:large", GPU, 2),
    PoolReplicas("engine:fixed", None, 3),
]
LOADS_S = {place.pool: 10.0 for place in PLACES}
NUM_WAVES = 4.0
NUM_PLACES = 10


def plan() -> PhysicalPlan:
    """A look-up, a filter, a loop over two engines, and a step on an engine that stays."""
    flow = sd.Flow("placed")
    gpu = flow.workers("gpu", count=2)
    small, large = (flow.engine(name, kind="null", workers=gpu) for name in ("small", "large"))
    fixed = flow.engine("fixed", kind="null", replicas=3)
    row = flow.input("rows", rows=[{"id": 0}])
    page = flow.http("page", url=f"http://host/{row.id}")
    flow.filter("known", page.status == 200)
    with flow.loop("rounds", max_turns=2) as rounds:
        draft = rounds.llm("draft", engine=small, prompt=f"{page.text}")
        rounds.llm("check", engine=large, prompt=f"{draft.text}")
    flow.output(text=flow.llm("last", engine=fixed, prompt=f"{rounds.value.draft.text}").text)
    logical = flow.plan()
    return plan_physical(
        logical, {step.operator: OPERATORS.get(step.operator)(Path()) for step in steps_of(logical.nodes)}
    )


def figures(**exec_s: float) -> PlacementFigures:
    found = {name: Estimate(seconds / 2, seconds, seconds * 2) for name, seconds in exec_s.items()}
    num_waves, num_places = dict.fromkeys(found, NUM_WAVES), dict.fromkeys(found, NUM_PLACES)
    return PlacementFigures(found, num_waves, num_places, LOADS_S, "a test")


ALL = figures(page=5.0, draft=20.0, check=30.0, last=6.0)


def test_the_problem_has_a_node_for_each_call() -> None:
    problem = placement_problem(plan(), PLACES, ALL, {"gpu-1": ("engine:large",)})
    assert problem.llm_nodes == (
        LLMNode("draft", "engine:small", 20.0, ("page", "known"), max_replicas=2, wave_s=5.0, call_s=5.0),
        LLMNode("check", "engine:large", 30.0, ("draft",), max_replicas=2, wave_s=7.5, call_s=7.5),
        LLMNode("last", "engine:fixed", 6.0, ("known", "draft", "check"), max_replicas=3, wave_s=1.5, call_s=1.5),
    )
    assert problem.tool_nodes == (
        ToolNode("page", 5.0, (), 1.25, "http:http://host", 1.25),
        ToolNode("known", 0.0, ("page",), 0.0),
    )
    assert [(replica.name, replica.resident) for replica in problem.replicas] == [
        ("gpu-0", ()),
        ("gpu-1", ("engine:large",)),
        *((f"engine:fixed-{number}", ("engine:fixed",)) for number in range(3)),
    ]


def two_pages(*hosts: str) -> PhysicalPlan:
    """Return a plan of a look-up on each host, and a step that reads them."""
    flow = sd.Flow("pages")
    engine = flow.engine("small", kind="null", workers=flow.workers("gpu", count=1))
    row = flow.input("rows", rows=[{"id": 0}])
    pages = [flow.http(f"page_{place}", url=f"http://{host}/{row.id}") for place, host in enumerate(hosts)]
    flow.output(text=flow.llm("read", engine=engine, prompt=f"{pages[0].text} {pages[1].text}").text)
    logical = flow.plan()
    return plan_physical(
        logical, {step.operator: OPERATORS.get(step.operator)(Path()) for step in steps_of(logical.nodes)}
    )


@pytest.mark.parametrize(("hosts", "makespan_s"), [(("a", "b"), 44.0), (("a", "a"), 84.0)])
def test_tools_of_one_host_share_what_it_takes_at_once(hosts: tuple[str, str], makespan_s: float) -> None:
    """Two look-ups of 40 s, each if it had the host for itself, and a last wave of 4 s that reads them."""
    placed = place_steps(
        two_pages(*hosts),
        [PoolReplicas("engine:small", WorkerGroup("gpu", 1), 1)],
        figures(page_0=40.0, page_1=40.0, read=16.0),
    )
    assert placed is not None
    assert placed.makespan_s == makespan_s


def test_a_share_of_fewer_rows_than_run_at_once_takes_a_call() -> None:
    """A step of one wave takes as long on two workers as on one; each has 40 s of load and work."""
    few = replace(figures(read=30.0), num_waves={"read": 1.0})
    plan = two_pages("a", "b")
    placed = place_steps(plan, [PoolReplicas("engine:small", WorkerGroup("gpu", 2), 2)], few)
    assert placed is not None
    assert placed.makespan_s == LOADS_S["engine:small"] + 30.0


def test_a_turn_costs_a_wave_beside_the_load() -> None:
    """A turn costs no wave of a step that is one wave."""
    waves = {"page": 1.0, "draft": 4.0, "check": 0.5, "last": 1.0}
    problem = placement_problem(plan(), PLACES, replace(ALL, num_waves=waves), {})
    assert problem.models == (
        Model("engine:small", 10.0, 15.0),
        Model("engine:large", 10.0, 10.0),
        Model("engine:fixed", 10.0, 10.0),
    )


def test_what_has_drained_is_left_out() -> None:
    left = ALL.left({"page": 0.0, "draft": 0.0, "check": 0.5, "last": 1.0})
    problem = placement_problem(plan(), PLACES, left, {})
    assert [(node.name, node.exec_s, node.parents, node.wave_s) for node in problem.llm_nodes] == [
        ("check", 15.0, (), 7.5),
        ("last", 6.0, ("known", "check"), 1.5),
    ]


def test_the_answer_is_an_order_for_each_worker() -> None:
    placed = place_steps(plan(), PLACES, ALL)
    assert placed is not None
    assert [order.worker for order in placed.orders] == ["gpu-0", "gpu-1"]
    assert {planned.step for order in placed.orders for planned in order.steps} == {"draft", "check"}
    assert placed.makespan_s >= placed.lower_bound > 0
    starts_s = {planned.step: planned.start_s for order in placed.orders for planned in order.steps}
    assert dict(placed.needs_s) == {"page": starts_s["draft"], "known": starts_s["draft"]}
    assert placed.places == ()


def test_engines_that_take_turns_have_an_order_of_steps() -> None:
    """Each of one worker's two engines has its turn; `last` runs beside them, on an engine that stays."""
    one = [replace(place, num_replicas=1) for place in PLACES]
    placed = place_steps(plan(), one, ALL)
    assert placed is not None
    assert dict(placed.places) == {"draft": 0, "check": 0, "last": 0}


def test_without_workers_there_is_nothing_to_place() -> None:
    assert place_steps(plan(), [PoolReplicas(place.pool, None, 1) for place in PLACES], ALL) is None


def estimate(**seconds: Estimate | None) -> PlanEstimate:
    """Return an estimate of a hundred calls a step."""
    calls = CallCost(Estimate.exactly(100), Estimate.exactly(100))
    pools = {call.name: call.pool for call in calls_of(plan().nodes)}
    nodes = tuple(NodeEstimate(name, "", pools[name], calls, None, one, None) for name, one in seconds.items())
    return PlanEstimate((ROWS,), nodes, None, (), ())


@pytest.mark.parametrize(
    ("known", "basis", "guessed"),
    [
        ({}, "call counts alone", frozenset(ALL.exec_s)),
        (
            {"page": 5.0, "draft": 10.0},
            "measured calls; for check, last call counts alone",
            frozenset({"check", "last"}),
        ),
        ({"page": 5.0, "draft": 10.0, "check": 15.0, "last": 2.0}, "measured calls", frozenset()),
    ],
)
def test_figures_come_from_the_estimate(known: dict[str, float], basis: str, guessed: frozenset[str]) -> None:
    """Seconds of one replica: of two that share the batch it takes twice as long as of both. A tool's guess is of all
    the calls that it runs at once."""
    found = figures_of(
        estimate(**{name: Estimate.exactly(known[name]) if name in known else None for name in ALL.exec_s}),
        PLACES,
        {"http:http://host": 50, "engine:small": 200, "engine:large": 8, "engine:fixed": 8},
        LOADS_S,
    )
    assert found.num_waves == {"page": 2.0, "draft": 0.5, "check": 12.5, "last": 12.5}
    assert (found.basis, found.guessed) == (basis, guessed)
    by_one = {"page": 5.0, "draft": 20.0, "check": 30.0, "last": 6.0}
    for name, one in found.exec_s.items():
        guess = ASSUMED_TOOL_S * (1 / 50) if name == "page" else ASSUMED_CALL_S
        assert one == (Estimate.exactly(by_one[name]) if name in known else Estimate.exactly(100) * guess)


def batch_of(least_s: float, most_s: float | None = None, num_calls: float = NUM_WAVES * NUM_PLACES) -> MeasuredCalls:
    """Return what is measured where a batch of as many calls as were expected takes so long."""
    call_s = least_s / NUM_WAVES
    return MeasuredCalls(num_calls, num_calls, call_s, (most_s or least_s) / (NUM_WAVES * NUM_PLACES))


@pytest.mark.parametrize(
    ("measured", "expected_s"),
    [
        (batch_of(39.0), None),
        (batch_of(41.0), 41.0),
        (batch_of(9.0), 9.0),
        # With few calls at once on a replica: 20 s may be true, then not.
        (batch_of(5.0, 200.0), None),
        (batch_of(39.0, 400.0), None),
        (batch_of(41.0, 400.0), 41.0),
        (batch_of(1.0, 11.0), None),
        (batch_of(1.0, 9.0), 9.0),
        # The calls are twice as many, or half.
        (batch_of(21.0, num_calls=80), 42.0),
        (batch_of(19.0, num_calls=20), 9.5),
        # Ten have ended, and at most 400 will come: as many as expected may.
        (replace(batch_of(20.0), least_calls=10.0, most_calls=400.0), None),
    ],
)
def test_figures_are_corrected_when_they_are_wrong(measured: MeasuredCalls, expected_s: float | None) -> None:
    """20 s, within a factor of two, were expected of 40 calls, ten of them at once."""
    corrected = ALL.corrected({"draft": measured}, {"engine:small": 19.0})
    assert (corrected is None) == (expected_s is None)
    if corrected is None or expected_s is None:
        return
    assert corrected.exec_s["draft"] == Estimate(expected_s / 2, expected_s, expected_s * 2)
    assert corrected.exec_s["check"] == ALL.exec_s["check"]
    assert corrected.load_s["engine:small"] == 19.0
    assert corrected.corrected({"draft": measured}, {"engine:small": 19.0}) is None


def test_loads_are_corrected_when_they_are_wrong() -> None:
    assert ALL.corrected({}, {"engine:small": 19.0}) is None
    assert ALL.corrected({}, {"engine:small": 21.0}) is not None


def test_what_was_guessed_moves_with_what_was_measured() -> None:
    guess = replace(ALL, guessed=frozenset({"draft", "check"}))
    corrected = guess.corrected({"draft": batch_of(200.0)}, {})
    assert corrected is not None
    assert {name: one.expected for name, one in corrected.exec_s.items()} == {
        "page": 5.0,
        "draft": 200.0,
        "check": 300.0,
        "last": 6.0,
    }
    of_another = guess.corrected({"last": batch_of(600.0)}, {})
    assert of_another is not None
    assert of_another.exec_s["check"].expected == 30.0
