"""Waits between attempts: bounded, seen in the progress, and dropped by the first signal."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from sundog.display import describe_wait
from sundog.errors import CallError, RunStopped
from sundog.host.waits import Wait, Waits, span
from sundog.ir.physical import Sharing
from sundog.ir.pool_names import label_of
from tests.execution.fakes import World, plan_of, step


def busy(retry_after_s: float) -> CallError:
    return CallError("HTTP 429: come back later", retryable=True, retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    ("asked_s", "told"),
    [(86_400.0, "24 hours"), (86_400_000.0, "1,000 days"), (float("inf"), "a million days")],
)
def test_a_wait_that_is_too_long_fails_the_row_with_what_was_asked(tmp_path: Path, asked_s: float, told: str) -> None:
    world = World(tmp_path)

    def refuse(payload: Any) -> Any:
        raise busy(asked_s)

    world.operator.behaviours = {"a": refuse}
    (end,) = world.run(plan_of(step("a", "{{ row.x }}")), {"x": 1})
    failure = json.loads(end.body)
    assert end.state == "failed"
    assert failure["attempts"] == 1
    assert told in failure["cause"]
    assert "HTTP 429" in failure["cause"]
    assert "at most 10 min" in failure["cause"]
    assert "max_retry_wait" in failure["hint"]


def test_a_step_may_allow_other_waits(tmp_path: Path) -> None:
    world = World(tmp_path)

    def refuse(payload: Any) -> Any:
        raise busy(8.0)

    world.operator.behaviours = {"a": refuse}
    (end,) = world.run(plan_of(step("a", "{{ row.x }}", max_retry_wait_s=7.0)), {"x": 1})
    assert "asked for in 8.0 s, and a call waits at most 7.0 s" in json.loads(end.body)["cause"]


@pytest.mark.parametrize("is_effect", [False, True])
def test_the_first_signal_drops_a_call_that_only_waits(tmp_path: Path, is_effect: bool) -> None:
    """Its row has not failed, and of an effect that is known not to have happened no claim is left."""
    world = World(tmp_path)
    seen: list[tuple[Wait, ...]] = []

    def stop() -> None:
        assert world.part is not None
        waits = world.part.driver.waits.by_pool()
        if not waits:
            # The claim of an effect is taken back before the wait begins.
            asyncio.get_running_loop().call_soon(stop)
            return
        seen.append(waits)
        world.part.driver.stop()
        seen.append(world.part.driver.waits.by_pool())

    def put_off(payload: Any) -> Any:
        asyncio.get_running_loop().call_soon(stop)
        raise busy(300.0)

    world.operator.behaviours = {"a": put_off}
    one = step("a", "{{ row.x }}", retries=3, sharing=Sharing.NEVER, effect=is_effect)
    with pytest.raises(RunStopped):
        world.run(plan_of(one), {"x": 1})
    (wait,) = seen[0]
    assert (wait.num_calls, wait.target, wait.is_asked_for) == (1, "fake", True)
    assert 0 < wait.wait_s <= 300, "what is left of it when it is noted"
    with sqlite3.connect(tmp_path / "store.sqlite") as connection:
        assert connection.execute("select count(*) from claims").fetchone() == (0,)
    connection.close()
    world.operator.behaviours = {}
    (end,) = world.run(plan_of(one), {"x": 1})
    assert end.state == "done"


def test_waits_are_told_together_by_the_longest() -> None:
    waits = Waits(label_of)
    waits.begin("0/a", "engine:local", 3.0, busy(3.0))
    waits.begin("1/a", "engine:local", 40.0, busy(40.0))
    waits.begin("2/a", "http:example.org", 0.4, CallError("the connection broke", retryable=True))
    waits.begin("3/a", "engine:local", 1.0, busy(1.0))
    waits.end("3/a")
    waits.end("unknown")
    assert [describe_wait(wait) for wait in waits.by_pool()] == [
        "2 calls wait 40 s: 'local' asks for it (HTTP 429: come back later)",
        "1 call waits 0.4 s: 'example.org' failed (the connection broke)",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5 s"), (119.0, "119 s"), (600.0, "10 min"), (7_200.0, "2 hours"), (1e9, "11,574 days"), (1e308, "days")],
)
def test_spans_of_time_in_words(seconds: float, text: str) -> None:
    assert span(seconds).endswith(text)
    assert len(span(seconds)) < 60
