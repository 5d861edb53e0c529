"""The choice among placements: how many are simulated, and how much of each."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from sundog.batch.follower import PlacementWithFigures, engine_replicas
from sundog.cost.plan_estimate import PlanEstimate, SampledPlan
from sundog.ir.physical import PhysicalPlan, Placement
from sundog.optimizer.place_steps import place_candidates
from sundog.optimizer.placement_figures import PlacementFigures
from sundog.sim import choice, promise
from sundog.sim.choice import CALL_S, chosen_placement
from sundog.sim.rows import SimulatedRows
from sundog.sim.simulate import simulate_load, simulate_within
from sundog.sim.workload import SimulatedCall, SimulatedRow, Workload
from tests.sim.test_promise import session_of

NUM_CALLS = 3 * 640


@dataclass
class Question:
    """The case of a choice, and what the choice has simulated."""

    plan: PhysicalPlan
    sampled: SampledPlan
    estimate: PlanEstimate
    figures: PlacementFigures
    candidates: list[Placement] = field(default_factory=list)
    #: Calls of each simulation.
    num_calls: list[int] = field(default_factory=list)

    def chosen(self) -> Placement:
        self.num_calls.clear()
        placing = chosen_placement(self.plan, self.sampled, self.estimate, self.figures)
        assert placing is not None
        return placing[1]


@pytest.fixture
def question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Question:
    """640 rows of three steps on two engines that take turns."""
    session = session_of(tmp_path, 640, has_workers=True)
    with closing(session.rows):
        costs = session.estimates.costs(session.rows.as_written(), 640)
    estimate = costs.estimate(session.plan)
    found = Question(session.plan, costs.sampled(session.plan), estimate, session.estimates.figures_of(estimate))
    original, call = promise.placed_makespan_s, SimulatedRows._call

    def simulated(
        plan: PhysicalPlan,
        sampled: SampledPlan,
        estimate: PlanEstimate,
        placing: PlacementWithFigures,
        max_calls: int,
        limit_s: float,
    ) -> float:
        found.num_calls.append(0)
        return original(plan, sampled, estimate, placing, max_calls, limit_s)

    async def counted(rows: SimulatedRows, row_index: int, place: int, one: SimulatedCall) -> None:
        found.num_calls[-1] += 1
        await call(rows, row_index, place, one)

    def candidates(plan: PhysicalPlan, replicas: object, figures: PlacementFigures) -> list[Placement]:
        return found.candidates

    found.candidates = place_candidates(session.plan, engine_replicas(session.plan), found.figures)
    monkeypatch.setattr(choice, "placed_makespan_s", simulated)
    monkeypatch.setattr(choice, "place_candidates", candidates)
    monkeypatch.setattr(SimulatedRows, "_call", counted)
    return found


def test_each_candidate_is_simulated_once_and_all_within_the_effort(question: Question) -> None:
    question.chosen()
    assert 1 < len(question.num_calls) <= len(question.candidates)
    assert sum(question.num_calls) <= 1.0 / CALL_S + len(question.candidates)


def test_one_that_cannot_end_first_is_cut_off(question: Question) -> None:
    """The one whose run ends last is simulated last, until the best one has ended."""

    def run_s(one: Placement) -> float:
        placing = question.figures, one
        return promise.placed_makespan_s(question.plan, question.sampled, question.estimate, placing, NUM_CALLS)

    question.num_calls.append(0)
    best, *_, worst = sorted(question.candidates, key=run_s)
    assert run_s(worst) > (1 + choice.ALIKE) * run_s(best)
    question.candidates = [replace(worst, makespan_s=best.makespan_s), replace(best, makespan_s=1.0)]
    assert question.chosen() == question.candidates[1]
    whole, cut = question.num_calls
    assert 0 < cut < whole


def test_one_that_promises_far_too_little_is_not_simulated(question: Question) -> None:
    best = min(question.candidates, key=lambda one: one.makespan_s)
    hopeless = replace(best, makespan_s=10 * best.makespan_s, needs_s=())
    question.candidates = [hopeless, best]
    assert question.chosen() is best
    assert len(question.num_calls) == 1


def test_among_equals_the_first_is_taken(question: Question) -> None:
    best = min(question.candidates, key=lambda one: one.makespan_s)
    question.candidates = [replace(best, makespan_s=1.2 * best.makespan_s), best]
    assert question.chosen() is question.candidates[0]


def test_a_simulation_that_is_cut_off_leaves_nothing_behind() -> None:
    """Calls run, wait, and are shared when it ends."""
    rows = [
        SimulatedRow((SimulatedCall("first", "tool", key=number % 7, call_s=1.0), SimulatedCall("then", "tool", (0,))))
        for number in range(20)
    ]
    workload = Workload(lambda: iter(rows), len(rows), 8, {}, {"tool": 3})
    whole_s = simulate_load(workload, "prefix_grouped").makespan_s
    assert whole_s > 2.0
    assert simulate_within(workload, "prefix_grouped", 1.5) is None
    within = simulate_within(workload, "prefix_grouped", whole_s + 0.1)
    assert within is not None
    assert within.makespan_s == whole_s
