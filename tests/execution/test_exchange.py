"""Calls that another process of the run may want too: asked for there, made once, given to all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sundog.engines.base import Usage
from sundog.errors import CallError
from sundog.execution.row_way import RowEnd
from sundog.host.driver import Driver
from sundog.ir.physical import CallExec, Sharing
from sundog.ir.row_ids import RowRef
from sundog.ir.values.normal_form import decode
from sundog.operators.base import BoundCall
from sundog.store.store import Store, Stored
from sundog.store.totals import node_totals
from tests.execution.fakes import World, fails, plan_of, step
from tests.execution.test_gather import GatheringFake

PLAN = plan_of(step("a", "{{ row.x }}"))
ELSEWHERE = Stored("made elsewhere", Usage(7, 3, 0), "run-1", 0.5)


class Others:
    """An exchange whose other processes do as the test says: `answer` is what each claim comes to, `first` what was
    committed before a put."""

    def __init__(self, answer: Stored | None = None, first: Stored | None = None, but: str = "") -> None:
        self.answer = answer
        self.first = first
        self.but = but
        self.claimed: list[bytes] = []
        self.put_values: dict[bytes, Any] = {}
        self.released: list[bytes] = []
        self.failed: dict[bytes, str] = {}
        self.waited: Callable[[], None] | None = None

    def asks(self, node: CallExec, call: BoundCall, row: RowRef) -> bool:
        return node.name != self.but

    async def claim(self, node: CallExec, key: bytes, on_wait: Callable[[], None]) -> Stored | None:
        self.claimed.append(key)
        self.waited = on_wait
        await asyncio.sleep(0)
        return self.answer

    def put(
        self, key: bytes, run_id: str, node_name: str, body: bytes, usage: Usage, *, call_s: float
    ) -> Awaitable[Stored | None]:
        self.put_values[key] = decode(body)
        done = asyncio.get_running_loop().create_future()
        done.set_result(self.first)
        return done

    def release(self, key: bytes) -> None:
        self.released.append(key)

    def fail(self, key: bytes, error: CallError) -> None:
        self.failed[key] = error.what


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.sched.policies.retry.BASE_S", 0.0)


def outputs(ends: list[RowEnd]) -> list[Any]:
    return [decode(end.body) for end in ends]


def test_the_value_of_another_process_is_the_answer_and_is_not_made_here(tmp_path: Path) -> None:
    others = Others(ELSEWHERE)
    world = World(tmp_path, exchange=others)
    assert outputs(world.run(PLAN, {"x": "k"}, {"x": "k"})) == [{"a": "made elsewhere"}] * 2
    assert world.operator.runs == {}
    assert len(others.claimed) == 1, "the second row has joined the first"
    assert not others.released
    assert world.part is not None
    assert world.part.figures.progress.num_executed == 0
    with closing(Store(tmp_path)) as store:
        assert node_totals(store, "run-1") == {}, "whoever has made it counts it"


def test_what_is_made_here_is_committed_there_alone(tmp_path: Path) -> None:
    others = Others()
    assert outputs(World(tmp_path, exchange=others).run(PLAN, {"x": "k"}, {"x": "m"})) == [{"a": "k"}, {"a": "m"}]
    assert sorted(others.put_values.values()) == ["k", "m"]
    assert not others.released
    with closing(Store(tmp_path)) as store:
        assert store.select("select key from results", ()) == []


def test_the_first_value_stays(tmp_path: Path) -> None:
    world = World(tmp_path, exchange=Others(first=ELSEWHERE))
    assert outputs(world.run(PLAN, {"x": "k"})) == [{"a": "made elsewhere"}]
    assert world.operator.runs == {"k": 1}


def test_the_failure_of_a_call_is_told_to_the_others(tmp_path: Path) -> None:
    others = Others()
    world = World(tmp_path, exchange=others)
    world.operator.behaviours = {"a": fails(9)}
    (end,) = world.run(PLAN, {"x": "k"})
    assert end.state == "failed"
    assert others.failed == dict.fromkeys(others.claimed, "broken")
    assert others.released == []


def test_a_call_that_is_cancelled_is_left_to_the_others(tmp_path: Path) -> None:
    others = Others()
    world = World(tmp_path, exchange=others)

    async def cancelled(payload: Any) -> Any:
        raise KeyboardInterrupt

    world.operator.behaviours = {"a": cancelled}
    with pytest.raises(KeyboardInterrupt):
        world.run(PLAN, {"x": "k"})
    assert others.released == others.claimed


def test_only_steps_that_others_may_share_are_asked_for(tmp_path: Path) -> None:
    plan = plan_of(
        step("own", "1{{ row.x }}", sharing=Sharing.NEVER),
        step("effect", "2{{ row.x }}", sharing=Sharing.NEVER, effect=True),
        step("elided", "3{{ row.x }}"),
        step("shared", "4{{ row.x }}"),
    )
    others = Others(but="elided")
    World(tmp_path, exchange=others).run(plan, {"x": "k"})
    assert list(others.put_values.values()) == ["4k"]


def test_a_committed_result_is_not_asked_for(tmp_path: Path) -> None:
    World(tmp_path).run(PLAN, {"x": "k"})
    others = Others()
    World(tmp_path, exchange=others).run(PLAN, {"x": "k"})
    assert others.claimed == []


def test_gathered_calls_are_asked_for_one_by_one(tmp_path: Path) -> None:
    others = Others()
    operator = GatheringFake(lambda payloads: payloads)
    world = World(tmp_path, operator, max_concurrency=1, exchange=others)
    world.run(plan_of(step("a", "{{ row.x }}", is_gathered=True)), *({"x": f"a{number}"} for number in range(3)))
    assert operator.requests == [["a0", "a1", "a2"]]
    assert sorted(others.put_values.values()) == ["a0", "a1", "a2"]
    assert sorted(others.claimed) == sorted(others.put_values)


def test_a_row_that_waits_for_others_keeps_no_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[str] = []
    monkeypatch.setattr(Driver, "workflow_left", lambda driver, workflow_id: left.append(workflow_id))
    others = Others()
    World(tmp_path, exchange=others).run(PLAN, {"x": "k"})
    assert left == [], "it makes the call now, and may have the slot that it was promised"
    assert others.waited is not None
    others.waited()
    assert left == ["run-1/0"]
