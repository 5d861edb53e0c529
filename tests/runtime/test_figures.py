"""All who read the figures of a run agree: retries, gathered calls and shared results counted once, and alike."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from sundog.batch.follower import MIN_CALLS, measured_steps
from sundog.host.recorder import StepTotals
from sundog.optimizer.placement_figures import MeasuredCalls
from sundog.runtime.figures.report import Written, read_report
from sundog.sched.events import RequestFailed, RequestFinished
from sundog.store.store import Store
from tests.execution.fakes import fails, loop, plan_of, step
from tests.execution.test_gather import world

PLAN = plan_of(
    step("a", "{{ row.x }}", is_gathered=True),
    step("b", "{{ a }}/b", after=("a",)),
    loop("c", step("d", "{{ a }}/{{ loop.turn }}"), max_turns=2),
    step("e", "{{ row.x }}/e"),
)
ROWS = [{"x": x} for x in ("aa", "ab", "ac", "aa", "alone", "ba")]
"""Two groups of one step, one call that nobody is gathered with, and a row that asks again what another asked."""
NUM_EXECUTED = {"a": 5, "b": 5, "d": 10, "e": 5}


def test_all_readers_agree(tmp_path: Path) -> None:
    # The third call of a group gets no answer there and runs alone; calls of two other steps fail at first.
    behaviours = {"b": fails(2, retryable=True), "c.1/d": fails(1, retryable=True)}
    here = world(tmp_path, lambda payloads: [None if one == "ac" else one for one in payloads], **behaviours)
    plan = here.physical(PLAN)
    rows = here.run(PLAN, *ROWS)
    assert [end.state for end in rows] == ["done"] * len(ROWS)
    assert here.part is not None
    figures, store = here.part.figures, Store(tmp_path)
    report = read_report(store, "run-1", plan, Written((), None, (), ()), figures, busy_s=0.0)
    steps = figures.recorder.steps("test")
    records = {node: record for (node, _), record in figures.observations.records.items() if record.call_s.counts}

    # Attempts: the driver's events and the recorder. Gathered calls are one; each call that ran again is one more.
    ends = [event for event in here.events if isinstance(event, RequestFinished | RequestFailed)]
    of_step = Counter(event.request_id.partition("/")[2].removesuffix(" gathered").rpartition("/")[2] for event in ends)
    assert {step: totals.num_attempts for step, totals in steps.items()} == of_step
    assert of_step == {"a": 2 + 2, "b": 5 + 2, "d": 10 + 1, "e": 5}

    # Calls: the store and its report, the history, progress, and the work of the pool.
    assert {node.node: node.num_executed for node in report.nodes} == NUM_EXECUTED
    assert {node: record.call_s.count for node, record in records.items()} == NUM_EXECUTED
    assert figures.progress.num_executed == figures.work["fake"].num_calls == sum(NUM_EXECUTED.values())
    assert figures.progress.num_asked == sum(len(end.asked) for end in rows) == 5 * len(ROWS)
    assert figures.progress.num_reused == figures.progress.num_asked - report.num_executed
    assert figures.progress.num_prompt_tokens == report.num_prompt_tokens

    # Seconds: the report's are the recorder's. The pool runs one attempt at a time, so that a step's share is what its
    # attempts took; the history knows the same of those that succeeded, and the engine's report is the time around all.
    assert report.step_seconds == {step: totals.pool_s for step, totals in steps.items()}
    assert list(report.step_seconds) == [node.node for node in report.nodes]
    assert records["e"].call_s.total == pytest.approx(report.step_seconds["e"])
    assert all(0.0 < records[step].call_s.total < report.step_seconds[step] for step in "abd")
    assert sum(report.step_seconds.values()) <= figures.work["fake"].wall_s


def test_little_is_no_measurement() -> None:
    totals = StepTotals(MIN_CALLS + 1, MIN_CALLS, attempt_s=60.0, replica_s=10.0, pool_s=10.0)
    measured = MeasuredCalls(MIN_CALLS, 4 * MIN_CALLS, 60.0 / MIN_CALLS, 10.0 / MIN_CALLS)
    assert measured_steps({"a": totals}, {"a": 0.75}) == {"a": measured}
    assert measured_steps({"a": totals}, {"a": 0.96}) == {}
    assert measured_steps({"a": replace(totals, num_answered=MIN_CALLS - 1)}, {"a": 0.75}) == {}
