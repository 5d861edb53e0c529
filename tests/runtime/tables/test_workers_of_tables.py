"""Tables whose engines take turns on workers."""

from __future__ import annotations

from pathlib import Path

import pytest

import sundog as sd
from sundog.config import read_config
from sundog.optimizer.placement.indexed import Indexed
from sundog.optimizer.placement.problem import LLMNode, Model, PlacementProblem, Replica, ToolNode
from sundog.optimizer.placement.schedule import Schedule
from sundog.session.session import plan_session
from sundog.store.runs import RunList
from sundog.store.store import Store


def two_tables() -> sd.Flow:
    """Return a flow of queries alone, so that no row is known when its run begins."""
    flow = sd.Flow("turns")
    flow.workers("gpu", count=2, max_resident=1)
    for name in ("small", "large"):
        flow.engine(name, kind="null", model=name, workers="gpu", output_tokens=3)
    flow.input("visits", rows=[{"id": number} for number in range(30)])
    first = flow.table("first", query="select * from visits where id < 20")
    first.llm("read", engine="small", prompt="Read {{ row.id }}")
    first.output(id="{{ row.id }}", text="{{ read.text }}")
    second = flow.table("second", query="select id % 5 as k, count(text) as n from first group by all")
    second.llm("say", engine="large", prompt="Say {{ row.k }} {{ row.n }}")
    second.output(k="{{ row.k }}", said="{{ say.text }}")
    return flow


def test_a_run_whose_rows_queries_give_has_its_workers(tmp_path: Path) -> None:
    result = two_tables().run(state=tmp_path)
    assert {node.node: node.num_executed for node in result.report.nodes} == {"read": 20, "say": 5}


def end_s(*, is_barrier: bool) -> float:
    """Return the end of two nodes on a replica each, the second of which reads what the first gives."""
    problem = PlacementProblem(
        (LLMNode("read", "m", 10.0, wave_s=1.0), LLMNode("say", "n", 10.0, ("all",), wave_s=1.0)),
        (ToolNode("all", 0.0, ("read",), 0.0, is_barrier=is_barrier),),
        (Model("m", 0.0, 0.0), Model("n", 0.0, 0.0)),
        (Replica("one", frozenset({"m"}), ("m",)), Replica("two", frozenset({"n"}), ("n",))),
    )
    return Schedule(Indexed(problem)).play([(0, (0,)), (1, (1,))]).end_s


def test_nothing_flows_through_a_barrier() -> None:
    assert (end_s(is_barrier=False), end_s(is_barrier=True)) == (11.0, 20.0)


def test_the_calls_of_a_run_of_queries_are_planned_from_all_their_rows(tmp_path: Path) -> None:
    flow = two_tables()
    flow.run(state=tmp_path)
    session = plan_session(flow.plan(), flow.base_dir, read_config(tmp_path))
    store = Store(tmp_path)
    (record,) = RunList(store, tmp_path).all()
    store.close()
    assert session.estimates.planned_calls(record) == pytest.approx(25)


def test_a_table_that_waits_is_placed_behind_all_rows_of_the_other(tmp_path: Path) -> None:
    flow = two_tables()
    flow.run(state=tmp_path)
    placing = plan_session(flow.plan(), flow.base_dir, read_config(tmp_path)).estimates.placing()
    assert placing is not None
    spans = {step.step: step for order in placing[1].orders for step in order.steps}
    assert spans["say"].start_s >= spans["read"].end_s
