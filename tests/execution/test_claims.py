"""A crash leaves a claim for each effect that was started, none for those that only waited."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sundog.errors import OperatorError
from sundog.ir.physical import Sharing
from sundog.store.store import Store
from tests.execution.fakes import FakeOperator, World, plan_of, step


def test_an_effect_that_waits_for_its_turn_is_not_claimed(tmp_path: Path) -> None:
    started = asyncio.Semaphore(0)

    async def never() -> None:
        started.release()
        await asyncio.Event().wait()

    world = World(tmp_path, FakeOperator(behaviours={"send": lambda payload: never()}), max_concurrency=3)
    plan = plan_of(step("send", "mail", sharing=Sharing.NEVER, effect=True))

    async def crash() -> None:
        rows = tuple({"x": row} for row in range(20))
        running = asyncio.ensure_future(world._run(world.physical(plan), rows, {}))
        for _ in range(3):
            await started.acquire()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(crash())
    with sqlite3.connect(tmp_path / "store.sqlite") as connection:
        claimed = connection.execute("select request_id from claims order by 1").fetchall()
    connection.close()
    assert claimed == [("0/send",), ("1/send",), ("2/send",)]
    world.operator = FakeOperator()
    ends = world.run(plan, *({"x": row} for row in range(20)))
    assert [end.state for end in ends] == ["failed"] * 3 + ["done"] * 17


def test_an_effect_that_succeeded_leaves_no_claim(tmp_path: Path) -> None:
    (end,) = World(tmp_path).run(plan_of(step("send", "mail", sharing=Sharing.NEVER, effect=True)), {})
    assert end.state == "done"
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as connection:
        assert connection.execute("select count(*) from claims").fetchone() == (0,)


def test_a_failure_that_is_known_lifts_the_claim_before_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def telling(name: str) -> Any:
        act = getattr(Store, name)

        def tell(self: Store, *arguments: Any) -> Any:
            said.append(name)
            return act(self, *arguments)

        return tell

    for name in ("claim", "release"):
        monkeypatch.setattr(Store, name, telling(name))

    async def refused() -> None:
        said.append("attempt")
        raise OperatorError("rolled back", retryable=True)

    world = World(tmp_path, FakeOperator(behaviours={"send": lambda payload: refused()}))
    (end,) = world.run(plan_of(step("send", "mail", sharing=Sharing.NEVER, effect=True, retries=1)), {"x": 1})
    assert end.state == "failed"
    assert said == ["claim", "attempt", "release"] * 2
