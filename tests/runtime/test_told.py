"""Figures that several processes tell: their sum is what one process would have counted."""

from __future__ import annotations

import pytest

from sundog.engines.base import Usage
from sundog.host.attempt import Success
from sundog.optimizer.planner import plan_physical
from sundog.runtime.figures.run_figures import RunFigures
from sundog.runtime.figures.told import ToldFigures, busy_together_s, tell_figures
from sundog.sched.events import RequestArrived
from sundog.sched.facts import CallFacts
from tests.execution.fakes import FakeOperator, plan_of, step

PLAN = plan_physical(plan_of(step("a", "{{ row.x }}"), step("b", "{{ a }}/b", after=("a",))), {"fake": FakeOperator()})
POOL = "fake"
CALLS = [
    ("a", 0.0, 10.0, Usage(30, 5, 0, 0)),
    ("b", 10.0, 11.0, Usage(40, 2, 8, 16)),
    ("a", 4.0, 12.0, Usage(50, 1, 0)),
]


class Process:
    """A process, or several of them one after the other. Its clock shows `behind_s` less than the run's."""

    def __init__(self, behind_s: float = 0.0) -> None:
        self.figures = RunFigures({POOL: "m"})
        self._behind_s = behind_s

    def call(self, step_name: str, began_s: float, ended_s: float, usage: Usage) -> None:
        """A call, in times of the run's clock."""
        arrived = RequestArrived(0.0, "r", POOL, facts=CallFacts(flow="test", node=step_name))
        running = self.figures.recorder.begin(arrived, f"{POOL}/0", began_s - self._behind_s)
        self.figures.recorder.end(running, ended_s - self._behind_s, "succeeded", Success("", usage))

    def tell(self, run: ToldFigures, name: str, place: int, at_s: float, late_s: float = 0.0) -> None:
        """Tell, and be heard so much later."""
        run.hear(name, place, tell_figures(self.figures, "test", at_s - self._behind_s), at_s + late_s)


def test_the_sum_is_what_one_process_counts() -> None:
    """Their clocks are not those of the run, and what they tell comes late, though not each time."""
    one, first, second = Process(), Process(100.0), Process(-3.0)
    for number, call in enumerate(CALLS):
        one.call(*call)
        (first if number < 2 else second).call(*call)
    first.figures.reused("a", is_of_another_run=True)
    second.figures.reused("a", is_of_another_run=True)
    run = RunFigures({})
    told = ToldFigures(PLAN, run)
    first.tell(told, "first", 0, at_s=11.0, late_s=0.75)
    first.tell(told, "first", 0, at_s=13.0)
    second.tell(told, "second", 1, at_s=13.0)
    second.tell(told, "second", 1, at_s=14.0, late_s=0.5)
    told.settle()
    assert run.observations.records == one.figures.observations.records
    assert run.num_reused == {"a": 2}
    of_run, of_one = run.work[POOL], one.figures.work[POOL]
    assert (of_run.begin_s, of_run.wall_s) == pytest.approx((0.0, 12.0))
    assert (of_run.num_calls, of_run.calls_s) == pytest.approx((of_one.num_calls, of_one.calls_s))
    assert of_run.work == of_one.work
    assert (of_run.is_distinct, of_run.num_estimated) == (of_one.is_distinct, of_one.num_estimated)


def test_seconds_of_a_pool_are_not_counted_twice() -> None:
    """A pool that two places keep busy for 11 and 8 of 12 s is taken to be busy for 12 - 1 * 4 / 12 of them, and its
    steps share that. A cell that takes the place of another is busy after it, not beside it."""
    run = RunFigures({})
    told = ToldFigures(PLAN, run)
    processes = [(Process(), 0), (Process(), 0), (Process(), 1)]
    for (process, place), call in zip(processes, CALLS, strict=True):
        process.call(*call)
        process.tell(told, str(id(process)), place, at_s=12.0)
    told.settle()
    pool_s = 12.0 - 1.0 * 4.0 / 12.0
    assert run.step_seconds("test") == pytest.approx({"a": pool_s * 18 / 19, "b": pool_s * 1 / 19})


def test_busy_together() -> None:
    assert busy_together_s([], 5.0) == busy_together_s([0.0], 0.0) == 0.0
    assert busy_together_s([3.0, 3.0], 3.0) == 3.0
    assert busy_together_s([0.1, 0.1], 10.0) == pytest.approx(0.2, rel=0.01)
    assert busy_together_s([4.0], 3.0) == 4.0, "attempts that failed may go on after the last answer"
