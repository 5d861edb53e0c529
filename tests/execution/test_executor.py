"""The meaning of when, for_each, loop, filter and value, and of failures, row by row."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sundog.errors import CallError
from tests.execution.fakes import FakeOperator, World, fails, keep, loop, plan_of, require, step, value


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def body(world: World, *args: Any) -> Any:
    (end,) = world.run(*args)
    return json.loads(end.body)


def test_a_skipped_step_is_empty_for_those_who_read_it(world: World) -> None:
    plan = plan_of(step("a", "x", when="{{ row.x > 1 }}"), step("b", "[{{ a.text }}]"))
    assert body(world, plan, {"x": 1}) == {"a": None, "b": "[]"}
    assert world.operator.runs["x"] == 0


@pytest.mark.parametrize(
    ("read", "found"),
    [
        ("{{ l.a.text }}", None),
        ("[{{ l.a.text }}]", "[]"),
        ("{{ l['a'].text }}", None),
        ("{{ l.a is defined }}", False),
        ("{{ l.a is none }}", True),
        ("{{ l.a.deep.down or 'empty' }}", "empty"),
        ("{{ l }}", {"turns": 1, "a": None, "b": "x"}),
        ("{{ l | tojson }}", '{"a": null, "b": "x", "turns": 1}'),
        ("{{ [l] | map(attribute='a.text') | join }}", ""),
        ("{{ m.l.a.text }}", None),
        ("{{ m.l }}", {"turns": 1, "a": None, "b": "x"}),
    ],
)
def test_a_skipped_step_of_a_loop_is_the_same_outside(world: World, read: str, found: Any) -> None:
    turn = loop("l", step("a", "x", when="{{ row.x > 1 }}"), step("b", "x"), max_turns=1)
    read_there = body(world, plan_of(turn, loop("m", turn, max_turns=1), value("read", read)), {"x": 1})
    assert read_there["read"] == found


def test_for_each_gathers_in_order(world: World) -> None:
    async def later_first(payload: str) -> str:
        for _ in range(10 - int(payload)):
            await asyncio.sleep(0)
        return payload

    world.operator = FakeOperator(behaviours={f"a[{index}]": later_first for index in range(4)})
    plan = plan_of(step("a", "{{ item ~ '' }}", for_each="{{ row.items }}"))
    assert body(world, plan, {"items": [1, 2, 3, 4]}) == {"a": ["1", "2", "3", "4"]}
    assert body(world, plan, {"items": []}) == {"a": []}
    assert "for_each needs a list, got str" in body(world, plan, {"items": "no list"})["cause"]


def test_a_loop_ends_when_content_or_at_its_bound(world: World) -> None:
    turn = loop("l", step("n", "{{ (loop.last.n or 0) + row.by }}"), max_turns=3, until="{{ n >= 4 }}")
    assert body(world, plan_of(turn), {"by": 2}) == {"l": {"turns": 2, "n": 4}}
    assert body(world, plan_of(turn), {"by": 1}) == {"l": {"turns": 3, "n": 3}}


def test_a_value_is_computed_without_a_call(world: World) -> None:
    plan = plan_of(
        value("sum", "{{ row.x + 1 }}"),
        value("text", "<{{ sum }}>"),
        value("none", "{{ row.x }}", when="{{ sum > 9 }}"),
        value("each", "{{ item * sum }}", for_each="{{ row.items }}"),
        step("a", "{{ text }}{{ none }}"),
    )
    (end,) = world.run(plan, {"x": 1, "items": (3, 4)})
    assert json.loads(end.body) == {"sum": 2, "text": "<2>", "none": None, "each": [6, 8], "a": "<2>"}
    assert [one.node for one in end.asked] == ["a"]


def test_a_value_in_a_loop_is_that_of_its_turn(world: World) -> None:
    turn = loop("l", value("n", "{{ (loop.last.n or 0) + row.by }}"), max_turns=3, until="{{ n >= 4 }}")
    assert body(world, plan_of(turn), {"by": 2}) == {"l": {"turns": 2, "n": 4}}


def test_a_value_that_cannot_be_fails_its_row(world: World) -> None:
    lacks = body(world, plan_of(value("a", "{{ row.x.y.z }}")), {"x": {}})
    assert (lacks["node"], lacks["attempts"]) == ("a", 0)
    assert "no JSON value" in body(world, plan_of(value("a", "{{ range }}")), {"x": 1})["cause"]


def test_a_loop_knows_all_turns_before(world: World) -> None:
    n = step("n", "{{ loop.turn * row.by }}", when="{{ loop.turn != 2 }}")
    turn = loop("l", n, step("seen", "{{ loop.history.n }}"), max_turns=4, until="{{ loop.history.n | length == 4 }}")
    assert body(world, plan_of(turn), {"by": 5}) == {"l": {"turns": 4, "n": 20, "seen": [5, None, 15]}}


def test_a_row_decides_its_turns(world: World) -> None:
    turn = loop("l", step("n", "{{ loop.turn }}"), max_turns="{{ row.most }}")
    assert [body(world, plan_of(turn), {"most": most})["l"]["turns"] for most in (1, 3)] == [1, 3]
    for wrong, shown in {0: "0", 1001: "1001", 2.0: "2.0", True: "True", "3": "'3'", None: "None"}.items():
        failed = body(world, plan_of(turn), {"most": wrong})
        assert failed["node"] == "l"
        assert failed["cause"].endswith(f"max_turns must be a whole number from 1 to 1,000, and is {shown}")


def test_a_filter_ends_a_row_before_later_effects(world: World) -> None:
    plan = plan_of(step("a", "{{ row.x }}"), keep("big", "{{ row.x > 1 }}"), step("b", "late", effect=True))
    ends = world.run(plan, {"x": 1}, {"x": 2})
    assert [end.state for end in ends] == ["dropped", "done"]
    assert world.operator.runs["late"] == 1


def test_a_requirement_fails_a_row_before_later_effects(world: World) -> None:
    big = require("big", "{{ row.x > 1 }}", "{{ row.x }} is too small" + "!" * 5_000)
    plan = plan_of(step("a", "{{ row.x }}"), big, step("b", "late", effect=True), outputs={"b": "{{ b }}"})
    ends = world.run(plan, {"x": 1}, {"x": 2})
    assert [end.state for end in ends] == ["failed", "done"]
    told = json.loads(ends[0].body)
    assert (told["node"], told["cause"][:35], told["attempts"]) == ("big", "OperatorError: 1 is too small!!!!!!", 0)
    assert len(told["cause"]) < 2_100
    assert world.operator.runs["late"] == 1


def test_independent_steps_overlap_and_dependent_ones_wait(world: World) -> None:
    together = asyncio.Event()

    async def first(payload: str) -> str:
        await asyncio.wait_for(together.wait(), 10)
        return payload

    def second(payload: str) -> str:
        together.set()
        return payload

    world.operator = FakeOperator(behaviours={"a": first, "b": second})
    plan = plan_of(step("a", "a"), step("b", "b"), step("c", "{{ a }}{{ b }}"))
    assert body(world, plan, {}) == {"a": "a", "b": "b", "c": "ab"}
    assert world.operator.order[-1] == "ab"


def test_of_two_failures_the_first_in_the_plan_is_told_whichever_came_first(world: World) -> None:
    async def slow_failure(payload: str) -> str:
        for _ in range(20):
            await asyncio.sleep(0)
        raise CallError("slow")

    world.operator = FakeOperator(behaviours={"a": slow_failure, "b": fails(9)})
    plan = plan_of(step("a", "a"), step("b", "b"), step("c", "{{ a }}{{ b }}"))
    assert body(world, plan, {})["cause"] == "CallError: slow"


def test_writers_and_readers_of_one_resource_keep_their_order(world: World) -> None:
    plan = plan_of(
        step("r1", "read 1", resource="db"),
        step("w", "write", resource="db", writes=True, effect=True),
        step("r2", "read 2", resource="db"),
        step("free", "elsewhere"),
    )
    world.run(plan, {})
    order = [name for name in world.operator.order if name != "elsewhere"]
    assert order == ["read 1", "write", "read 2"]


def test_reads_of_a_written_resource_are_not_shared(world: World) -> None:
    written = plan_of(step("r", "read", resource="db"), step("w", "write", resource="db", writes=True, effect=True))
    world.run(written, {}, {})
    assert world.operator.runs["read"] == 2


def test_an_output_that_cannot_be_rendered_fails_its_row_only(world: World) -> None:
    plan = plan_of(step("a", "x"), outputs={"y": "{{ row.y + 1 }}"})
    good, bad = world.run(plan, {"y": 1}, {"y": "text"})
    assert (good.state, bad.state) == ("done", "failed")
    assert json.loads(bad.body)["node"] == "outputs.y"
