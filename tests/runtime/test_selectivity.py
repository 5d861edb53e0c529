"""The selectivity of filters, and what the plan makes of it."""

from __future__ import annotations

from pathlib import Path

from sundog.config import read_config
from sundog.cost.history import NodeRecord
from sundog.ir.logical import Filter, LogicalPlan, Table
from sundog.ir.physical import FilterExec
from sundog.ir.tables import InputRows
from sundog.ir.templates.template import Template
from sundog.measured.selectivity import selectivity_of
from sundog.session.choices import PlanChoices, Rewriting
from sundog.session.flow_file import load_plan
from sundog.session.session import plan_session

FLOW = """
name: sieves
inputs:
  rows: {path: rows.jsonl}
nodes:
  wide: {filter: "{{ row.kind != 'rare' }}"}
  narrow: {filter: "{{ row.number == 3 }}"}
outputs: {number: "{{ row.number }}"}
"""


def write(folder: Path) -> Path:
    (folder / "flow.yaml").write_text(FLOW)
    rows = (f'{{"number": {number}, "kind": "{"rare" if number == 7 else "common"}"}}\n' for number in range(10))
    (folder / "rows.jsonl").write_text("".join(rows))
    return folder / "flow.yaml"


def filters_of(flow: Path, *without: str) -> list[str]:
    rewriting = Rewriting(without)
    session = plan_session(
        load_plan(flow, {}), flow.parent, read_config(flow.parent / "state"), PlanChoices(rewriting=rewriting)
    )
    return [node.name for node in session.plan.nodes if isinstance(node, FilterExec)]


def test_the_filter_that_drops_more_rows_comes_first(tmp_path: Path) -> None:
    flow = write(tmp_path)
    assert filters_of(flow) == ["narrow", "wide"]
    assert filters_of(flow, "reorder_filters") == ["wide", "narrow"]


def test_the_sample_tells_what_it_can_and_earlier_runs_the_rest() -> None:
    filters = {"seen": "{{ row.a > 1 }}", "bad": "{{ row.a.b.c }}", "later": "{{ page.ok }}", "never": "{{ page.no }}"}
    nodes = tuple(Filter(name, Template(text)) for name, text in filters.items())
    plan = LogicalPlan("f", (), (), {}, (Table("", InputRows("rows"), nodes, ()),), ("",))
    rows = [(number, {"a": number}) for number in range(4)]
    history = {("later", ""): NodeRecord(num_held=3, num_judged=4), ("seen", ""): NodeRecord(num_held=9, num_judged=9)}
    assert selectivity_of(plan, rows, history) == {"seen": 0.5, "bad": 0.0, "later": 0.75}
    assert selectivity_of(plan, [], history) == {"seen": 1.0, "later": 0.75}
