"""Sharing, claims, retries and the commit point, on a real store and core."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from sundog.execution.row_way import RowEnd
from sundog.ir.physical import Sharing
from tests.execution.fakes import FakeOperator, World, fails, plan_of, step


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once: tests wait for nothing."""
    monkeypatch.setattr("sundog.sched.policies.retry.BASE_S", 0.0)
    monkeypatch.setattr("sundog.execution.calls.attempt.GRACE_S", 0.0)


def bodies(ends: list[RowEnd]) -> list[object]:
    return [json.loads(end.body) for end in ends]


@pytest.mark.parametrize(
    ("sharing", "in_one_run", "in_the_next_run"),
    [(Sharing.ALWAYS, 1, 1), (Sharing.RUN, 1, 2), (Sharing.NEVER, 3, 6)],
)
def test_how_far_a_result_reaches(world: World, sharing: Sharing, in_one_run: int, in_the_next_run: int) -> None:
    plan = plan_of(step("a", "same", sharing=sharing))
    world.run(plan, {}, {}, {})
    assert world.operator.runs["same"] == in_one_run
    world.run(plan, {}, {}, {}, run_id="run-2")
    assert world.operator.runs["same"] == in_the_next_run


@pytest.mark.parametrize("sharing", list(Sharing))
def test_a_resumed_run_computes_nothing_again(world: World, sharing: Sharing) -> None:
    plan = plan_of(step("a", "{{ row.x }}", sharing=sharing), step("b", "{{ a }}!", sharing=sharing))
    rows = [{"x": 1}, {"x": 1}, {"x": 2}]
    first = world.run(plan, *rows)
    executed = sum(world.operator.runs.values())
    assert world.run(plan, *rows) == first
    assert sum(world.operator.runs.values()) == executed


def test_names_do_not_matter_for_sharing_but_steps_are_counted_apart(world: World) -> None:
    ends = world.run(plan_of(step("a", "same"), step("b", "same")), {})
    assert world.operator.runs["same"] == 1
    assert [asked.node for asked in ends[0].asked] == ["a", "b"]


def test_fresh_ignores_other_runs_but_not_itself(world: World) -> None:
    plan = plan_of(step("a", "same", sharing=Sharing.ALWAYS))
    world.run(plan, {})
    world.run(plan, {}, run_id="run-2", is_fresh=True)
    world.run(plan, {}, run_id="run-2", is_fresh=True)
    assert world.operator.runs["same"] == 2


def test_a_shared_failure_reaches_all_and_is_not_kept(world: World) -> None:
    world.operator = FakeOperator(behaviours={"a": fails(1, retryable=False)})
    plan = plan_of(step("a", "same"))
    failed = {"node": "a", "cause": "CallError: broken", "attempts": 1}
    assert bodies(world.run(plan, {}, {})) == [failed, failed]
    assert world.operator.runs["same"] == 1
    assert bodies(world.run(plan, {})) == [{"a": "same"}]


@pytest.mark.parametrize(("failures", "state", "attempts"), [(2, "done", 3), (3, "failed", 3)])
def test_retries_are_counted(world: World, failures: int, state: str, attempts: int) -> None:
    world.operator = FakeOperator(behaviours={"a": fails(failures, retryable=True)})
    (end,) = world.run(plan_of(step("a", "x")), {})
    assert end.state == state
    assert world.operator.runs["x"] == attempts


def test_an_effect_runs_once_per_row_and_never_again(world: World) -> None:
    plan = plan_of(step("send", "mail", sharing=Sharing.NEVER, effect=True))
    world.run(plan, {}, {})
    world.run(plan, {}, {})
    assert world.operator.runs["mail"] == 2
    assert len(set(world.operator.idempotency_keys)) == 2, "one key for each row"


def test_an_effect_of_unknown_outcome_is_reported_and_not_repeated(world: World) -> None:
    world.operator = FakeOperator(behaviours={"send": fails(1, is_outcome_unknown=True)})
    plan = plan_of(step("send", "mail", sharing=Sharing.NEVER, effect=True))
    world.run(plan, {})
    (end,) = world.run(plan, {})
    assert world.operator.runs["mail"] == 1
    assert "outcome is unknown" in json.loads(end.body)["cause"]
    (end,) = world.run(plan, {}, repeats_unknown_effects=True)
    assert end.state == "done"
    assert len(set(world.operator.idempotency_keys)) == 1, "repeated under the same key"


def test_an_effect_known_not_to_have_happened_may_run_again(world: World) -> None:
    world.operator = FakeOperator(behaviours={"send": fails(1)})
    plan = plan_of(step("send", "mail", sharing=Sharing.NEVER, effect=True))
    assert [world.run(plan, {})[0].state for _ in range(2)] == ["failed", "done"]


def test_concurrency_is_bounded(world: World) -> None:
    world.max_concurrency = 3
    world.run(plan_of(step("a", "{{ row.x }}")), *({"x": x} for x in range(20)))
    assert world.operator.max_running == 3


def test_a_timeout_is_a_failure_of_the_row(world: World) -> None:
    world.operator = FakeOperator(behaviours={"a": lambda payload: asyncio.sleep(30)})
    (end,) = world.run(plan_of(step("a", "x", timeout_s=0.01, retries=1)), {})
    assert json.loads(end.body)["cause"] == "EngineTimeout: no answer within 0.01 s"
    assert json.loads(end.body)["attempts"] == 2


def test_an_effect_that_may_have_happened_is_not_retried_whatever_its_operator_says(world: World) -> None:
    world.operator = FakeOperator(behaviours={"send": fails(1, retryable=True, is_outcome_unknown=True)})
    plan = plan_of(step("send", "mail", sharing=Sharing.NEVER, effect=True, retries=5))
    (end,) = world.run(plan, {})
    assert end.state == "failed"
    assert world.operator.runs["mail"] == 1
