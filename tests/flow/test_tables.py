"""Tables of a flow, from a file and from Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from sundog.errors import FlowError, Location
from sundog.flow.bind import load_flow
from sundog.flow.python.builder import FlowBuilder
from sundog.ir.logical import LogicalPlan
from sundog.ir.tables import CollectedRows, ComponentRows, InputRows, QueryRows

HERE = Path(__file__).parent


def from_python() -> FlowBuilder:
    flow = FlowBuilder("visits")
    local = flow.engine("local", kind="null")
    flow.input("visits", "visits.csv")
    flow.input("drugs", "drugs.csv")
    flow.constant("least", 3)
    extracted = flow.table("extracted", source="visits")
    form = {"drugs": [{"name": "str", "mg": "float"}]}
    read = extracted.llm("read", engine=local, prompt=f"{extracted.row.note}", output=form)
    extracted.output(visit=extracted.row.id, drugs=read.drugs)
    query = f"""select e.visit, d.name, d.mg, l.maker
from {extracted} e, unnest(e.drugs) as u(d)
left join drugs l on l.name = d.name
where d.mg > $least
"""
    mentions = flow.table("mentions", query=query, types={"mg": "DOUBLE"})
    mentions.filter("known", "{{ row.maker != none }}")
    mentions.output(visit=mentions.row.visit, name=mentions.row.name, mg=mentions.row.mg)
    by_name = flow.table(
        "by_name",
        query=f"select name, count(*) as num_visits from {mentions} group by name",
        failed_rows="leave_out",
        max_rows=1000,
    )
    query = f"select visit, name, mg from {mentions} order by visit, name"
    collect = {"query": query, "by": ["visit"], "as": "drugs", "max_group_rows": 500}
    histories = flow.table("histories", collect=collect)
    tell = histories.llm("tell", engine=local, prompt=f"{histories.row.visit}: {histories.row.drugs}")
    histories.output(visit=histories.row.visit, about=tell.text)
    edges = "select a.id, b.id as other from visits a, visits b where a.note = b.note"
    flow.table("same", components={"nodes": "select id from visits", "edges": edges})
    flow.results(by_name, "mentions")
    return flow


@pytest.fixture
def plan() -> LogicalPlan:
    return load_flow(HERE / "tables.yaml")


def test_file_and_python_give_the_same_plan(plan: LogicalPlan) -> None:
    assert from_python().plan() == plan


def test_a_table_knows_its_source_and_its_columns(plan: LogicalPlan) -> None:
    extracted, mentions, by_name, histories, same = plan.tables
    assert extracted.source == InputRows("visits")
    assert isinstance(mentions.source, QueryRows)
    assert mentions.reads == ("extracted", "drugs")
    assert [name for name, _ in mentions.outputs] == ["visit", "name", "mg"]
    assert (by_name.failed_rows, by_name.max_rows, mentions.failed_rows) == ("leave_out", 1000, "stop")
    # Without outputs of its own it has the columns of its query.
    assert [(name, template.source) for name, template in by_name.outputs] == [
        ("name", "{{ row.name }}"),
        ("num_visits", "{{ row.num_visits }}"),
    ]
    assert isinstance(histories.source, CollectedRows)
    assert (histories.source.by, histories.source.as_, histories.source.max_group_rows) == (("visit",), "drugs", 500)
    assert isinstance(same.source, ComponentRows)
    assert [name for name, _ in same.outputs] == ["id", "component"]
    assert plan.results == ("by_name", "mentions")
    assert [node.name for node in plan.nodes] == ["read", "known", "tell"]


def test_without_results_they_are_the_tables_that_no_other_reads() -> None:
    flow = from_python()
    del flow._data["results"]
    assert flow.plan().results == ("by_name", "histories", "same")


def test_groups_have_the_columns_that_they_are_collected_by_and_the_list() -> None:
    flow = FlowBuilder("x")
    flow.input("visits", "visits.csv")
    flow.table("a", collect={"query": "select ward, id, day from visits", "by": "ward"})
    (table,) = flow.plan().tables
    assert [name for name, _ in table.outputs] == ["ward", "rows"]


@pytest.mark.parametrize(
    ("collect", "what"),
    [
        ({"query": "select ward, id from visits", "by": "wards"}, "the query gives no column 'wards' to collect by"),
        ({"query": "select ward, id from visits", "by": ["ward", "ward"]}, "the column 'ward' is named twice in 'by'"),
        ({"query": "select ward from visits", "by": "ward"}, "the query gives no column beside those of 'by'"),
        ({"query": "select ward, id from visits", "by": "ward", "as": "Ward"}, "'as' and 'by' both name a column"),
        ({"query": "select ward, id from visits", "by": "ward", "as": "__x"}, "'__x' cannot name a column"),
        ({"query": "select ward, id from visit", "by": "ward"}, "there is no table or input 'visit'"),
        ({"query": "select ward, id from visits", "by": []}, "by"),
    ],
)
def test_what_cannot_be_collected_is_told(collect: dict[str, object], what: str) -> None:
    flow = FlowBuilder("x")
    flow.input("visits", "visits.csv")
    flow.table("a", collect=collect)
    with pytest.raises(FlowError, match=what):
        flow.plan()


def test_columns_that_only_the_input_tells_are_left_open() -> None:
    flow = FlowBuilder("x")
    flow.input("visits", "visits.csv")
    flow.table("a", query="select * from visits where dose > 3")
    (table,) = flow.plan().tables
    assert table.outputs == ()


def test_errors_in_a_query_point_into_its_text(tmp_path: Path) -> None:
    text = (HERE / "tables.yaml").read_text().replace("join drugs l", "join druggs l")
    (tmp_path / "f.yaml").write_text(text)
    with pytest.raises(FlowError) as raised:
        load_flow(tmp_path / "f.yaml")
    assert isinstance(raised.value.where, Location)
    line = text.splitlines()[raised.value.where.line - 1]
    assert line[raised.value.where.column - 1 :].startswith("druggs")


def test_a_table_and_a_column_are_given_once() -> None:
    flow = from_python()
    with pytest.raises(FlowError, match="'mentions' is already in tables"):
        flow.table("mentions", query="select 1 as one")
    table = flow.table("more", query="select 1 as one")
    table.output(one="{{ row.one }}")
    with pytest.raises(FlowError, match="the table has a column 'one' already"):
        table.output(one="{{ row.one }}")
