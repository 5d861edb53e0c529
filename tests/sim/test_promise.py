"""Promises of parts against those of the whole, and the choice among placements."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

import sundog as sd
from sundog.batch import follower
from sundog.batch.follower import engine_replicas
from sundog.config import read_config
from sundog.cost.plan_estimate import PlanEstimate, SampledPlan
from sundog.explanation.explanation import Explanation
from sundog.host.virtual_loop import run_virtually
from sundog.optimizer.place_steps import place_candidates
from sundog.session.choices import PlanChoices
from sundog.session.session import Session, plan_session
from sundog.sim.promise import promised_makespan


def flow_of(num_rows: int, *, has_workers: bool, num_workers: int = 2) -> sd.Flow:
    """Three steps on two engines; a call takes half a second, a load two."""
    flow = sd.Flow("parts")
    gpu = flow.workers("gpu", count=num_workers) if has_workers else None
    for name in ("one", "two"):
        options = {"latency_s": 0.5, "load_s": 2.0, "max_concurrency": 16, "model": name}
        flow.engine(name, kind="null", **options, **({} if gpu is None else {"workers": gpu}))
    flow.input("rows", rows=[{"a": number} for number in range(num_rows)])
    flow.llm("first", engine="one", prompt="Say {{ row.a }}")
    flow.llm("second", engine="two", prompt="Then {{ first.text }}")
    flow.llm("third", engine="one", prompt="And {{ second.text }}")
    flow.output(text="{{ third.text }}")
    return flow


def session_of(folder: Path, num_rows: int, *, has_workers: bool, window: int | None = None) -> Session:
    """A session that knows how long calls take, from an earlier run."""
    flow = flow_of(32, has_workers=has_workers)
    run_virtually(flow.arun(state=folder), waits_for_threads=True)
    flow = flow_of(num_rows, has_workers=has_workers)
    return plan_session(flow.plan(), flow.base_dir, read_config(folder), PlanChoices(max_rows_in_flight=window))


@pytest.mark.parametrize(("has_workers", "window"), [(True, None), (True, 256), (False, None)])
def test_a_part_promises_about_what_the_whole_does(has_workers: bool, window: int | None, tmp_path: Path) -> None:
    session = session_of(tmp_path, 640, has_workers=has_workers, window=window)
    with closing(session.rows):
        rows = session.rows.as_written()
        costs = session.estimates.costs(rows, rows.count())
    estimate, sampled = costs.estimate(session.plan), costs.sampled(session.plan)
    placing = session.estimates.placed(costs, estimate)
    assert (placing is not None) == has_workers

    def promise_s(max_calls: int) -> float:
        promised = promised_makespan(session.plan, sampled, estimate, placing=placing, max_calls=max_calls)
        assert promised is not None
        return promised.expected

    whole_s = promise_s(10_000)
    assert promise_s(600) == pytest.approx(whole_s, rel=0.06), "on a smaller scale"
    assert promise_s(200) == pytest.approx(whole_s, rel=0.15), "on a smaller scale, and of the first rows alone"


@pytest.mark.parametrize("max_calls", [600, 100])
def test_figures_that_are_true_are_true_of_a_part(
    max_calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search for each look at a part would take longer than its simulation."""
    session = session_of(tmp_path, 640, has_workers=True)
    with closing(session.rows):
        costs = session.estimates.costs(session.rows.as_written(), 640)
    estimate, sampled = costs.estimate(session.plan), costs.sampled(session.plan)
    placing = session.estimates.placed(costs, estimate)
    anew: list[object] = []

    def place_steps(plan: object, replicas: object, figures: object, residents: object) -> None:
        anew.append(figures)

    monkeypatch.setattr(follower, "place_steps", place_steps)
    assert promised_makespan(session.plan, sampled, estimate, placing=placing, max_calls=max_calls) is not None
    assert anew == []


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_batch_of_many_windows_is_promised_as_it_runs(num_workers: int, tmp_path: Path) -> None:
    """One worker's engines take turns in each of four windows; two workers keep an engine each."""
    flow = flow_of(128, has_workers=True, num_workers=num_workers)
    run_virtually(flow.arun(state=tmp_path, max_rows_in_flight=32), waits_for_threads=True)
    ran = run_virtually(flow.arun(state=tmp_path, max_rows_in_flight=32, fresh=True), waits_for_threads=True)
    choices = PlanChoices(max_rows_in_flight=32)
    document = Explanation(plan_session(flow.plan(), flow.base_dir, read_config(tmp_path), choices)).document()
    assert document.makespan_s is not None
    assert document.placement is not None
    assert document.placement.num_windows == 4
    assert document.makespan_s.expected == pytest.approx(ran.report.rows_s, rel=0.02)
    assert document.placement.makespan_s == pytest.approx(ran.report.rows_s, rel=0.15), "the search's own promise"


def test_nothing_is_promised_where_no_call_was_timed(tmp_path: Path) -> None:
    flow = flow_of(10, has_workers=False)
    session = plan_session(flow.plan(), flow.base_dir, read_config(tmp_path))
    with closing(session.rows):
        costs = session.estimates.costs(session.rows.as_written(), 10)
    estimate: PlanEstimate = costs.estimate(session.plan)
    sampled: SampledPlan = costs.sampled(session.plan)
    assert promised_makespan(session.plan, sampled, estimate) is None


def test_candidates_differ_and_one_with_engines_that_stay_comes_in_both_orders(tmp_path: Path) -> None:
    session = session_of(tmp_path, 640, has_workers=True)
    with closing(session.rows):
        costs = session.estimates.costs(session.rows.as_written(), 640)
    figures = session.estimates.figures_of(costs.estimate(session.plan))
    replicas = engine_replicas(session.plan)
    found = place_candidates(session.plan, replicas, figures)
    assert len({(one.orders, one.places) for one in found}) == len(found)
    steady = next(one for one in found if not one.places)
    assert all(len(order.pools) == 1 for order in steady.orders)
    rows_first, steps_first = (one.places for one in found if one.orders == steady.orders)
    assert not rows_first
    assert dict(steps_first) == {"first": 0, "third": 1, "second": 0}
    named = replace(session.plan, solver="partition")
    assert [one.places for one in place_candidates(named, replicas, figures)] == [()], "who names a solver has its plan"
