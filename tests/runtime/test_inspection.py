"""The inspection before a run, and the findings that end it: only those with which no row can succeed."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sundog.errors import ConfigError, OperatorError
from sundog.ir.logical import InputSource, LogicalPlan, Node, Table
from sundog.ir.physical import Sharing
from sundog.ir.tables import InputRows
from sundog.ir.templates.template import Template
from sundog.operators.base import Finding, Inspection, Operator
from sundog.optimizer.planner import PlannerOptions, plan_physical
from sundog.runtime.preflight import inspection
from sundog.runtime.preflight.inspection import PlanFinding, inspect_plan, refuse
from sundog.runtime.rows.row_choice import RowChoice
from sundog.runtime.tables.flow_inputs import FlowInputs
from sundog.secrets import Secrets
from tests.execution.fakes import FakeOperator, keep, loop, step

Answer = Finding | Exception


class Inspected(FakeOperator):
    """Says what a step's text asks for, and keeps what it was given."""

    def __init__(self, says: Mapping[str, Answer]) -> None:
        super().__init__()
        self.says = says
        self.given: dict[str, Inspection] = {}
        self.is_closed = False

    async def inspect(self, spec: Any, given: Inspection) -> Sequence[Finding]:
        self.given[spec.value.source] = given
        answer = self.says.get(spec.value.source)
        if isinstance(answer, Exception):
            raise answer
        return [] if answer is None else [answer]

    async def close(self) -> None:
        self.is_closed = True


DEAD = Finding("the database is not there", "make it", is_fatal=True, is_of_state=True)
WRONG = Finding("the statement is wrong", is_fatal=True)
NOTED = Finding("some rows are odd")


def look(
    tmp_path: Path,
    nodes: Sequence[Node],
    says: Mapping[str, Answer] | None = None,
    rows: Sequence[Mapping[str, Any]] = ({"x": 1}, {"x": None}, {"x": 3}),
    operator: Inspected | None = None,
    limit: int | None = None,
    policy: str = "prefix_grouped",
) -> tuple[PlanFinding, ...]:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    operators: dict[str, Operator] = {"fake": operator or Inspected(says or {})}
    table = Table("", InputRows("rows"), tuple(nodes), ())
    logical = LogicalPlan("flow", (), (InputSource("rows", path="rows.jsonl"),), {}, (table,), ("",))
    plan = plan_physical(logical, operators, PlannerOptions(policy=policy))
    inputs = FlowInputs(logical, tmp_path, None, RowChoice(limit))
    return inspect_plan(plan, inputs, lambda: operators, Secrets({}))


def fatal(findings: Sequence[PlanFinding]) -> list[str]:
    return [one.place for one in findings if one.is_fatal]


@pytest.mark.parametrize(
    ("nodes", "is_fatal"),
    [
        ([step("a", "dead")], True),
        ([step("a", "fine"), step("b", "dead")], True),
        ([step("a", "dead", when="{{ row.x }}")], False),
        ([step("a", "dead", for_each="{{ [row.x] }}")], False),
        ([keep("f", "{{ row.x }}"), step("a", "dead")], False),
        ([loop("l", step("a", "dead"), max_turns=2)], True),
        ([replace(loop("l", step("a", "dead"), max_turns=2), when=Template("{{ row.x }}"))], False),
    ],
)
def test_only_a_step_of_every_row_can_end_the_run(tmp_path: Path, nodes: list[Node], *, is_fatal: bool) -> None:
    findings = look(tmp_path, nodes, {"dead": WRONG})
    assert [one.what for one in findings] == [WRONG.what]
    assert bool(fatal(findings)) is is_fatal
    if is_fatal:
        with pytest.raises(ConfigError, match="no row can succeed"):
            refuse(findings)
    else:
        refuse(findings)


@pytest.mark.parametrize(("finding", "is_fatal"), [(DEAD, False), (WRONG, True)])
def test_what_an_earlier_step_may_mend_ends_nothing(tmp_path: Path, finding: Finding, *, is_fatal: bool) -> None:
    nodes = [step("make", "fine", effect=True, sharing=Sharing.NEVER), step("read", "read")]
    assert bool(fatal(look(tmp_path, nodes, {"read": finding}))) is is_fatal
    assert bool(fatal(look(tmp_path, nodes[1:], {"read": DEAD})))


@pytest.mark.parametrize("error", [OperatorError("no answer", hint="ask again"), KeyError("bug")])
def test_what_could_not_be_looked_at_is_told(tmp_path: Path, error: Exception) -> None:
    operator = Inspected({"odd": error})
    (found,) = look(tmp_path, [step("a", "odd")], operator=operator)
    assert found.what.startswith("not checked: ")
    assert not found.is_fatal
    assert operator.is_closed


def test_what_takes_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Inspected):
        async def inspect(self, spec: Any, given: Inspection) -> Sequence[Finding]:
            await asyncio.Event().wait()
            return []

    monkeypatch.setattr(inspection, "TIMEOUT_S", 0.01)
    (found,) = look(tmp_path, [step("a", "odd")], operator=Slow({}))
    assert found.what.startswith("not checked: it took longer")


def test_a_thread_that_does_not_come_back_hides_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_over = threading.Event()

    class Blocked(Inspected):
        async def inspect(self, spec: Any, given: Inspection) -> Sequence[Finding]:
            if spec.value.source == "blocked":
                await asyncio.to_thread(is_over.wait, 60)
            return await super().inspect(spec, given)

    monkeypatch.setattr(inspection, "TIMEOUT_S", 0.2)
    try:
        found = look(tmp_path, [step("a", "blocked"), step("b", "dead")], operator=Blocked({"dead": WRONG}))
    finally:
        is_over.set()
    assert [one.place for one in found] == ["step 'a'", "step 'b'"]
    assert fatal(found) == ["step 'b'"]


def test_an_operator_is_given_the_calls_that_rows_are_known_to_make(tmp_path: Path) -> None:
    nodes: list[Node] = [
        step("a", "{{ row.x }}", when="{{ row.x != 3 }}"),
        step("b", "{{ a }}"),
        step("c", "[{{ item }}]", for_each="{{ [row.x, 7] }}"),
        loop("l", step("d", "{{ loop.turn }}"), step("e", "{{ loop.last.d or row.x }}"), max_turns=2),
        keep("f", "{{ row.x == 1 }}"),
        step("g", "last {{ row.x }}"),
        keep("h", "{{ a }}"),
        step("i", "late {{ row.x }}"),
    ]
    operator = Inspected({})
    assert look(tmp_path, nodes, operator=operator) == ()
    calls = {
        source: {row: [call.payload for call in calls] for row, calls in given.calls.items()}
        for source, given in operator.given.items()
    }
    assert calls == {
        "{{ row.x }}": {0: [1], 1: [None]},
        "{{ a }}": {2: [None]},
        "[{{ item }}]": {0: ["[1]", "[7]"], 1: ["[]", "[7]"], 2: ["[3]", "[7]"]},
        "{{ loop.turn }}": {0: [1], 1: [1], 2: [1]},
        "{{ loop.last.d or row.x }}": {0: [1], 1: [None], 2: [3]},
        "last {{ row.x }}": {0: ["last 1"]},
        "late {{ row.x }}": {},
    }


def test_rows_that_cannot_be_rendered_are_counted(tmp_path: Path) -> None:
    (found,) = look(tmp_path, [step("a", "{{ row.x + 1 }}")])
    assert found.what.startswith("1 of 3 rows fail here (row 1: ")
    assert found.hint is None or found.hint not in found.what, "what to do is told once"
    assert not found.is_fatal
    (found,) = look(tmp_path, [step("a", "{{ row.y.z }}")])
    assert found.what.startswith("3 of 3 rows fail here")
    assert found.is_fatal


@pytest.mark.parametrize(("policy", "fact"), [("fair_share", "tenant"), ("slack_edf", "deadline_s"), ("fcfs", None)])
def test_a_policy_set_that_orders_by_what_no_flow_tells_is_told(tmp_path: Path, policy: str, fact: str | None) -> None:
    found = look(tmp_path, [step("a", "{{ row.x }}")], policy=policy)
    assert [one.place for one in found] == ([f"policy set '{policy}'"] if fact else [])
    assert all(f"`{fact}`" in one.what and not one.is_fatal for one in found)


def test_no_rows_no_findings(tmp_path: Path) -> None:
    assert look(tmp_path, [step("a", "dead")], {"dead": WRONG}, limit=0) == ()


def test_only_the_first_rows_of_many_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "MAX_ROWS", 2)
    (found,) = look(tmp_path, [step("a", "{{ row.x + 1 }}")])
    assert found.what.startswith("1 of the first 2 rows fail here")
