"""Sessions: what they are planned by, and what they read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog import api
from sundog.config import read_config
from sundog.errors import ConfigError, InputError, UserError
from sundog.flow import columns
from sundog.ir.logical import InputSource, LogicalPlan, Table
from sundog.ir.physical import FilterExec
from sundog.runtime.rows.row_choice import RowChoice
from sundog.session import flow_rows
from sundog.session import session as session_module
from sundog.session.choices import PlanChoices, Rewriting
from sundog.session.flow_rows import FlowRows
from sundog.session.planned_flow import plan_flow
from sundog.session.session import Session, open_operators, plan_session
from tests.cli.flows import sundog

FLOW = """
name: sieves
inputs:
  rows: {path: rows.jsonl}
nodes:
  wide: {filter: "{{ row.kind != 'rare' }}"}
  narrow: {filter: "{{ row.number == 3 }}"}
outputs: {number: "{{ row.number }}"}
"""
ROWS = '{"number": 3, "kind": "rare"}\n{"number": 4, "kind": "common"}\n'


@pytest.fixture
def written(tmp_path: Path) -> LogicalPlan:
    """A flow whose filters may change places, over rows that are not there."""
    (tmp_path / "flow.yaml").write_text(FLOW)
    return sd.load(tmp_path / "flow.yaml").plan()


def test_to_make_a_session_reads_nothing(tmp_path: Path, written: LogicalPlan) -> None:
    rows = FlowRows(written, tmp_path, RowChoice())
    flow = plan_flow(written, open_operators(written, tmp_path), PlanChoices(), {"wide": 0.9, "narrow": 0.1})
    session = Session(flow, rows, tmp_path, read_config(tmp_path / "state"))
    assert [node.name for node in session.plan.nodes if isinstance(node, FilterExec)] == ["narrow", "wide"]
    assert [path.name for path in tmp_path.iterdir()] == ["flow.yaml"]
    with pytest.raises(InputError, match=r"there is no file 'rows\.jsonl'"):
        plan_session(written, tmp_path, read_config(tmp_path / "state"))


def test_a_choice_that_does_not_exist_is_told_before_rows_are_read(tmp_path: Path, written: LogicalPlan) -> None:
    for choices in (PlanChoices(policy="fsfc"), PlanChoices(rewriting=Rewriting(("reorder_filter",)))):
        with pytest.raises(ConfigError, match=r"fsfc|reorder_filter"):
            plan_session(written, tmp_path, read_config(tmp_path / "state"), choices)


def test_columns_are_checked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: LogicalPlan) -> None:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    checked: list[Any] = []

    def counted(table: Table, inputs: Sequence[InputSource], shape: Any) -> None:
        checked.append(shape)
        columns.check_columns(table, inputs, shape)

    monkeypatch.setattr(flow_rows, "check_columns", counted)
    flow = sd.load(tmp_path / "flow.yaml")
    flow.explain(state=tmp_path / "state")
    assert len(checked) == 1
    flow.run(state=tmp_path / "state", progress=False)
    assert len(checked) == 2


def test_columns_of_other_snapshots_are_checked_again(tmp_path: Path) -> None:
    flow = sd.Flow("asked", base_dir=tmp_path)
    flow.output(a=flow.input("rows", query="select 1 as a").a)
    rows = FlowRows(written := flow.plan(), tmp_path, RowChoice())
    for name, line in (("one", '{"a": 1}\n'), ("two", '{"b": 1}\n')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.jsonl").write_text(line)
    rows.open(written, tmp_path / "one")
    with pytest.raises(InputError, match="the input has no column 'a'"):
        rows.open(written, tmp_path / "two")


COUNTED = """
def rows():
    with open({place!r}, "a") as calls:
        calls.write("called ")
    return [{{"id": number}} for number in range(3)]
"""
OF_FUNCTION = """
name: counted
inputs: {rows: {call: "made_for_tables:rows"}}
tables:
  one: {from: rows, nodes: {said: {value: "{{ row.id }}"}}, outputs: {id: "{{ row.id }}", said: "{{ said }}"}}
  other: {query: select one.id from one join rows using (id)}
"""


def test_a_function_that_tables_read_runs_once_for_a_command(tmp_path: Path) -> None:
    calls = tmp_path / "calls.txt"
    (tmp_path / "made_for_tables.py").write_text(COUNTED.format(place=str(calls)))
    (tmp_path / "flow.yaml").write_text(OF_FUNCTION)
    for number in (1, 2):
        assert len(list(sd.run(tmp_path / "flow.yaml", state=tmp_path / "state"))) == 3
        assert len(calls.read_text().split()) == number
    sd.explain(tmp_path / "flow.yaml", state=tmp_path / "state")
    assert len(calls.read_text().split()) == 3


class Asked(UserError):
    """The choices that a session was asked to be planned by."""

    def __init__(self, choices: PlanChoices) -> None:
        super().__init__("asked")
        self.choices = choices


CHOICES = PlanChoices(RowChoice(7, 5, 3), Rewriting(("merge_calls", "prune_columns")), "fcfs", 9, "cost", "heft")
WORDS = (
    "--limit 7 --sample 5 --seed 3 --no-rule merge_calls --no-rule prune_columns --policy fcfs --max-rows-in-flight 9 "
    "--objective cost --placement heft"
)
OPTIONS: dict[str, Any] = {
    "limit": 7,
    "sample": 5,
    "seed": 3,
    "without_rules": ["merge_calls", "prune_columns"],
    "policy": "fcfs",
    "max_rows_in_flight": 9,
    "objective": "cost",
    "placement": "heft",
}


@pytest.mark.parametrize(
    ("words", "options", "choices"),
    [
        ("", {}, PlanChoices()),
        (WORDS, OPTIONS, CHOICES),
        ("--naive", {"naive": True}, PlanChoices(rewriting=Rewriting(is_naive=True))),
    ],
)
@pytest.mark.parametrize("command", ["run", "explain"])
def test_the_command_line_and_the_api_mean_the_same_choices(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: LogicalPlan,
    command: str,
    words: str,
    options: dict[str, Any],
    choices: PlanChoices,
) -> None:
    asked: list[PlanChoices] = []

    def ask(plan: LogicalPlan, base_dir: Path, config: Any, choices: PlanChoices, lists: Any) -> Session:
        asked.append(choices)
        raise Asked(choices)

    monkeypatch.setattr(session_module, "plan_session", ask)
    monkeypatch.setattr(api, "plan_session", ask)
    assert sundog(tmp_path, command, "flow.yaml", *words.split()).exit_code == 2
    with pytest.raises(Asked):
        getattr(sd.load(tmp_path / "flow.yaml"), command)(state=tmp_path / "state", **options)
    assert asked == [choices, choices]
