"""Estimates of flows with several tables against what their runs did."""

from __future__ import annotations

from pathlib import Path

import pytest

import sundog as sd
from sundog.config import read_config
from sundog.cost.estimate import NOTHING
from sundog.cost.plan_estimate import PlanEstimate
from sundog.session.session import plan_session

NUM_VISITS = 40


def three_tables() -> sd.Flow:
    """Return a flow whose tables are made of rows, of rows that a step makes, and of their groups."""
    flow = sd.Flow("clinic")
    flow.engine("local", kind="null", output_tokens=6)
    flow.input("visits", rows=[{"id": number, "note": f"note {number % 10}"} for number in range(NUM_VISITS)])
    read = flow.table("read", source="visits")
    read.llm("ask", engine="local", prompt="{{ row.note }}")
    read.output(id="{{ row.id }}", text="{{ ask.text }}")
    words = flow.table("words", query="select r.id, w as word from read r, unnest(string_split(r.text, ' ')) as u(w)")
    words.llm("judge", engine="local", prompt="Is {{ row.word }} a word?")
    words.output(word="{{ row.word }}", verdict="{{ judge.text }}")
    groups = flow.table("groups", query="select word, count(*) as n from words group by word")
    groups.llm("say", engine="local", prompt="{{ row.word }} {{ row.n }}")
    groups.output(word="{{ row.word }}", said="{{ say.text }}")
    flow.results("read", "words", "groups")
    return flow


def estimate_of(flow: sd.Flow, state: Path) -> PlanEstimate:
    session = plan_session(flow.plan(), flow.base_dir, read_config(state))
    inputs = session.rows.as_written()
    found = session.estimates.costs(inputs).estimate(session.plan)
    session.rows.close()
    return found


def test_rows_that_steps_make_are_expected_from_the_form_of_the_query_and_then_from_the_run(tmp_path: Path) -> None:
    before = {table.name: table for table in estimate_of(three_tables(), tmp_path).tables}
    assert before["read"].num_rows.low == before["read"].num_rows.high == NUM_VISITS
    assert (before["words"].num_rows.low, before["words"].num_rows.expected) == (0.0, 3 * NUM_VISITS)
    assert not before["words"].is_known

    result = three_tables().run(state=tmp_path)
    counts = {name: sum(1 for _ in result.table(name)) for name in ("read", "words", "groups")}
    after = estimate_of(three_tables(), tmp_path)
    assert {table.name: round(table.num_rows.expected) for table in after.tables} == counts
    assert all(counts[table.name] in table.num_rows for table in after.tables)
    asked = {node.node: node.num_asked for node in result.report.nodes}
    executed = {node.node: node.num_executed for node in result.report.nodes}
    for node in after.nodes:
        assert node.calls.num_asked.expected == pytest.approx(asked[node.node])
        assert executed[node.node] in node.calls.num_executed


def test_sums_over_tables_are_the_totals(tmp_path: Path) -> None:
    three_tables().run(state=tmp_path)
    found = estimate_of(three_tables(), tmp_path)
    assert found.sample.num_rows == sum(table.sample.num_rows for table in found.tables)
    assert found.calls.num_asked == sum((node.calls.num_asked for node in found.nodes), NOTHING)
    assert found.critical_path == ("ask", "judge", "say"), "tables come one after another"


def test_queries_over_inputs_alone_are_run_for_the_estimate(tmp_path: Path) -> None:
    flow = sd.Flow("wards")
    flow.engine("local", kind="null")
    flow.input("visits", rows=[{"ward": number % 7, "cost": number} for number in range(60)])
    flow.input("names", rows=[{"ward": number, "name": f"ward {number}"} for number in range(7)])
    flow.table("sums", query="select ward, sum(cost)::bigint as cost from visits where cost > 9 group by ward")
    rich = flow.table("rich", query="select name, cost from sums join names using (ward) where cost > 230")
    rich.filter("late", "{{ row.name != 'ward 5' }}")
    rich.llm("say", engine="local", prompt="{{ row.name }} costs {{ row.cost }}")
    rich.output(name="{{ row.name }}", said="{{ say.text }}")
    found = {table.name: table for table in estimate_of(flow, tmp_path).tables}
    result = flow.run(state=tmp_path)
    assert found["rich"].is_known
    assert found["sums"].num_rows.expected == found["sums"].num_rows.high == 7
    assert found["rich"].num_done.low == found["rich"].num_done.high == sum(1 for _ in result.table("rich"))
    assert found["rich"].num_rows.expected > found["rich"].num_done.expected, "the filter takes some"


def test_inputs_that_a_query_reads_beside_a_table_of_steps_count(tmp_path: Path) -> None:
    flow = three_tables()
    told = flow.table("told", query="select v.id, r.text from visits v left join read r on r.id = v.id")
    told.llm("tell", engine="local", prompt="{{ row.id }} {{ row.text }}")
    told.output(said="{{ tell.text }}")
    flow.table("pairs", query="select v.id, r.text from read r, visits v")
    flow.results("told", "pairs")
    found = {table.name: table.num_rows for table in estimate_of(flow, tmp_path).tables}
    assert (found["told"].low, found["told"].expected) == (NUM_VISITS, NUM_VISITS)
    assert found["pairs"].expected == NUM_VISITS**2


def test_queries_over_the_first_input_have_more_rows_where_it_is_taken_to_have_more(tmp_path: Path) -> None:
    flow = sd.Flow("wards")
    flow.input("visits", rows=[{"ward": number, "cost": number} for number in range(10)])
    flow.input("names", rows=[{"ward": number} for number in range(7)])
    flow.table("dear", query="select ward from visits where cost >= 5")
    flow.table("named", query="select ward from names")
    session = plan_session(flow.plan(), flow.base_dir, read_config(tmp_path))
    inputs = session.rows.as_written()
    found = session.estimates.costs(inputs, 1_000).estimate(session.plan)
    session.rows.close()
    assert {table.name: table.num_rows.expected for table in found.tables} == {"dear": 500, "named": 7}


def test_a_query_that_fails_leaves_its_rows_to_the_run(tmp_path: Path) -> None:
    flow = sd.Flow("wrong")
    flow.engine("local", kind="null")
    flow.input("visits", rows=[{"ward": "x"}, {"ward": "1"}])
    wards = flow.table("wards", query="select ward::bigint as ward from visits")
    wards.llm("say", engine="local", prompt="{{ row.ward }}")
    wards.output(said="{{ say.text }}")
    found = estimate_of(flow, tmp_path)
    assert any("query of the table 'wards' fails" in note for note in found.missing)
