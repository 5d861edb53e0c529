"""Runs of flows with several tables: what is computed, in which order it stands, and what a failed row means."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pytest

import sundog as sd
from sundog.config import read_config
from sundog.errors import ConfigError, FlowError, InputError, RunStopped, SundogError
from sundog.runtime.run_options import RunOptions
from sundog.session.session import plan_session

VISITS = [
    {"id": 1, "drugs": [{"name": "aspirin", "mg": 100.0}, {"name": "ibuprofen", "mg": 400.0}]},
    {"id": 2, "drugs": []},
    {"id": 3, "drugs": [{"name": "aspirin", "mg": 50.5}]},
]
QUIET = {"progress": False}
MEETING = threading.Barrier(2, timeout=20)


def shouted(text: str) -> str:
    return text.upper()


def refusing(text: str) -> str:
    if text == "ibuprofen":
        raise ValueError("no ibuprofen")
    return text


def given(value: Any) -> Any:
    return value


def meet(text: str) -> str:
    MEETING.wait()
    return text


def visits(folder: Path, rows: list[dict[str, Any]] = VISITS) -> sd.Flow:
    (folder / "visits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flow = sd.Flow("visits", base_dir=folder)
    flow.input("visits", "visits.jsonl")
    return flow


def with_groups(folder: Path, call: Any = shouted, **of_groups: Any) -> sd.Flow:
    """Visits -> mentions, each with a call -> groups by what the call gave."""
    flow = visits(folder)
    mentions = flow.table("mentions", query="select v.id, d.name, d.mg from visits v, unnest(v.drugs) as u(d)")
    named = mentions.python("named", call, args={"text": mentions.row.name})
    mentions.output(visit=mentions.row.id, name=f"{named}!", mg=mentions.row.mg)
    query = f"select name, count(*) as n, sum(mg) as mg from {mentions} group by name"
    flow.table("groups", query=query, **of_groups)
    return flow


def run(flow: sd.Flow, folder: Path, **options: Any) -> sd.Result:
    return flow.run(state=folder / "state", **{**QUIET, **options})


def test_rows_go_from_table_to_table(tmp_path: Path) -> None:
    flow = with_groups(tmp_path)
    flow.results("groups", "mentions")
    result = run(flow, tmp_path, output={"groups": tmp_path / "g.jsonl", "mentions": tmp_path / "m.csv"})
    assert result.tables == ("groups", "mentions")
    assert list(result.table("groups")) == [
        {"name": "ASPIRIN!", "n": 2, "mg": 150.5},
        {"name": "IBUPROFEN!", "n": 1, "mg": 400.0},
    ]
    assert [row["visit"] for row in result.table("mentions")] == [1, 1, 3]
    assert (tmp_path / "m.csv").read_text().splitlines() == [
        "visit,name,mg", "1,ASPIRIN!,100.0", "1,IBUPROFEN!,400.0", "3,ASPIRIN!,50.5",
    ]  # fmt: skip
    assert len((tmp_path / "g.jsonl").read_text().splitlines()) == 2
    assert [(row.table, row.row_id) for row in result.table("mentions")] == [
        ("mentions", "0"), ("mentions", "1"), ("mentions", "2"),
    ]  # fmt: skip
    assert result.report.num_done == 5


def test_a_finished_run_is_given_back(tmp_path: Path) -> None:
    first = run(with_groups(tmp_path), tmp_path)
    again = run(with_groups(tmp_path), tmp_path)
    assert again.report.run_id == first.report.run_id
    assert list(again) == list(first)


@pytest.mark.anyio
async def test_a_stream_gives_rows_of_results_only(tmp_path: Path) -> None:
    rows = [row async for row in with_groups(tmp_path).stream(state=tmp_path / "state")]
    assert {row.table for row in rows} == {"groups"}
    assert len(rows) == 2


def test_several_results_are_named(tmp_path: Path) -> None:
    flow = with_groups(tmp_path)
    flow.results("groups", "mentions")
    with pytest.raises(ConfigError, match="the flow has 2 results: groups, mentions") as raised:
        run(flow, tmp_path, output=tmp_path / "out.csv")
    assert "--output groups=" in str(raised.value)
    for output in ({"grops": tmp_path / "out.csv"}, "grops=out.csv"):
        with pytest.raises(ConfigError, match="the flow has no table 'grops'"):
            run(flow, tmp_path, output=output)
    with pytest.raises(ConfigError, match=r"the tables 'groups' and 'mentions' both go to .*out\.csv"):
        run(flow, tmp_path, output={"groups": tmp_path / "out.csv", "mentions": tmp_path / "out.csv"})
    result = run(flow, tmp_path)
    for use in (list, len, lambda found: found.columns, lambda found: found.to_arrow()):
        with pytest.raises(ConfigError, match="the flow has 2 results"):
            use(result)
    assert "<pre>" in result._repr_html_()
    with pytest.raises(ConfigError, match="the flow has no result 'group'"):
        result.table("group")


def test_a_table_that_only_an_output_names_is_made(tmp_path: Path) -> None:
    flow = with_groups(tmp_path)
    flow.results("mentions")
    assert run(flow, tmp_path).report.num_done == 3, "nobody needs the groups"
    result = run(flow, tmp_path, output={"groups": tmp_path / "g.jsonl"})
    assert (tmp_path / "g.jsonl").read_text().splitlines() == [
        '{"name":"ASPIRIN!","n":2,"mg":150.5}',
        '{"name":"IBUPROFEN!","n":1,"mg":400.0}',
    ]
    assert result.tables == ("mentions", "groups")


def test_a_step_whose_answer_no_query_reads_does_not_run(tmp_path: Path) -> None:
    flow = visits(tmp_path)
    read = flow.table("read", source="visits")
    read.output(id=read.row.id, said=read.python("say", refusing, args={"text": "ibuprofen"}))
    flow.table("counted", query="select count(*) as n from read")
    result = run(flow, tmp_path)
    assert list(result) == [{"n": 3}]
    assert result.report.num_executed == 0


def test_tables_of_one_database_are_written_together(tmp_path: Path) -> None:
    outputs = {"groups": tmp_path / "out.duckdb#groups", "mentions": tmp_path / "out.duckdb#mentions"}
    run(with_groups(tmp_path), tmp_path, output=outputs)
    with duckdb.connect(str(tmp_path / "out.duckdb")) as database:
        found = database.execute("select name, n, (select count(*) from mentions) from groups order by all").fetchall()
    assert found == [("ASPIRIN!", 2, 3), ("IBUPROFEN!", 1, 3)]


def test_a_group_waits_for_rows_that_failed(tmp_path: Path) -> None:
    flow = with_groups(tmp_path, refusing)
    needed = "the table 'groups' needs all rows of 'mentions', and 1 of them failed"
    with pytest.raises(RunStopped, match=needed) as raised:
        run(flow, tmp_path, output=tmp_path / "out.csv")
    assert "leave_out" in str(raised.value)
    failed = [json.loads(line) for line in (tmp_path / "out.csv.errors.jsonl").read_text().splitlines()]
    assert [(row["table"], row["row"], row["node"]) for row in failed] == [("mentions", "1", "named")]


def test_a_group_may_leave_failed_rows_out(tmp_path: Path) -> None:
    result = run(with_groups(tmp_path, refusing, failed_rows="leave_out"), tmp_path)
    assert list(result) == [{"name": "aspirin!", "n": 2, "mg": 150.5}]
    assert [row["table"] for row in result.errors] == ["mentions"]


def test_mended_rows_let_the_run_go_on(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def named(text):\n    return text if text == 'aspirin' else [][0]\n")
    flow = with_groups(tmp_path, "own:named")
    with pytest.raises(RunStopped, match="needs all rows"):
        run(flow, tmp_path)
    (tmp_path / "own.py").write_text("def named(text):\n    return text\n")
    result = run(flow, tmp_path, retry_failed=True)
    assert [row["n"] for row in result] == [2, 1]
    assert result.report.num_executed == 3, "each call once"


def test_tables_made_without_failed_rows_are_made_anew_with_them(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def named(text):\n    return text if text == 'aspirin' else [][0]\n")
    flow = with_groups(tmp_path, "own:named", failed_rows="leave_out")
    told = flow.table("told", query="select name, n from groups")
    told.output(name=told.python("tell", shouted, args={"text": told.row.name}), n=told.row.n)
    assert list(run(flow, tmp_path)) == [{"name": "ASPIRIN!", "n": 2}]
    (tmp_path / "own.py").write_text("def named(text):\n    return text\n")
    result = run(flow, tmp_path, retry_failed=True)
    assert list(result) == [{"name": "ASPIRIN!", "n": 2}, {"name": "IBUPROFEN!", "n": 1}]


def test_a_table_with_effects_is_not_made_anew(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def named(text):\n    return text if text == 'aspirin' else [][0]\n")
    flow = with_groups(tmp_path, "own:named", failed_rows="leave_out")
    told = flow.table("told", query="select name, n from groups order by name")
    told.output(sent=told.python("send", shouted, args={"text": told.row.name}, effect=True))
    run(flow, tmp_path)
    with pytest.raises(ConfigError, match=r"the table 'told' was made without rows that failed.*its effects \(send\)"):
        run(flow, tmp_path, retry_failed=True)


@pytest.mark.parametrize(
    ("value", "types", "outcome"),
    [
        (1.5, {}, 1.5),
        (1.5, {"value": "DOUBLE"}, 1.5),
        (1.5, {"value": "BIGINT"}, "the column 'value' is BIGINT for the queries that read it, and 1.5 is none"),
        ("x", {"value": "VARCHAR[]"}, "is VARCHAR[] for the queries that read it, and 'x' is no list"),
        ({"a": [1, None]}, {}, {"a": [1, None]}),
    ],
)  # fmt: skip
def test_no_value_is_changed_to_fit_a_type(tmp_path: Path, value: Any, types: Mapping[str, str], outcome: Any) -> None:
    flow = visits(tmp_path, [{"id": 1}])
    first = flow.table("first", source="visits", types=types)
    first.output(value=first.python("got", given, args={"value": value}))
    flow.table("second", query="select value from first", failed_rows="leave_out")
    result = run(flow, tmp_path)
    if (isinstance(outcome, str) and "BIGINT" in outcome) or "no list" in str(outcome):
        assert list(result) == []
        assert outcome in result.errors[0]["cause"]
    else:
        assert list(result) == [{"value": outcome}]


@pytest.mark.parametrize(
    ("value", "type"),
    [
        ("255", "UTINYINT"), ("18446744073709551615", "UBIGINT"),
        ("340282366920938463463374607431768211455", "UHUGEINT"),
        ("-170141183460469231731687303715884105727", "HUGEINT"), ("12345678901234567890.123456789", "DECIMAL(38,9)"),
        ("2020-01-01 01:02:03.123456789", "TIMESTAMP_NS"), ("2020-01-01 01:02:03.123", "TIMESTAMP_MS"),
        ("2020-01-01 01:02:03", "TIMESTAMP_S"), ("2020-01-01 01:02:03.123456", "TIMESTAMP"), ("2020-02-29", "DATE"),
        ("[1, NULL, 3]", "UBIGINT[]"), ("{'a': 1, 'b': [2020-02-29]}", 'STRUCT(a UINTEGER, b DATE[])'),
    ],
)  # fmt: skip
def test_values_keep_their_type_from_table_to_table(tmp_path: Path, value: str, type: str) -> None:
    flow = visits(tmp_path, [{"id": 1}])
    flow.table("first", query=f"select $${value}$$::{type} as value from visits")
    flow.table("second", query="select value, typeof(value) as type from first")
    flow.table("third", query="select type, value::varchar as text, typeof(value) as again from second")
    assert list(run(flow, tmp_path)) == [{"type": type, "text": value, "again": type}]


def test_empty_sets_are_tables(tmp_path: Path) -> None:
    flow = with_groups(tmp_path)
    (tmp_path / "visits.jsonl").write_text('{"id": 1, "drugs": [{"name": "x", "mg": 1.5}]}\n')
    nobody = flow.table("nobody", query="select name from groups where n > 99")
    nobody.output(name=nobody.python("say", shouted, args={"text": nobody.row.name}))
    result = run(flow, tmp_path, output=tmp_path / "none.csv")
    assert list(result) == []
    assert (tmp_path / "none.csv").read_text() == "name\n"


def refused(flow: sd.Flow, folder: Path) -> SundogError:
    with pytest.raises((FlowError, InputError)) as raised:
        run(flow, folder)
    assert not (folder / "state" / "runs").exists(), "nothing was begun"
    return raised.value


def test_wrong_columns_are_told_before_anything_runs(tmp_path: Path) -> None:
    flow = with_groups(tmp_path)
    flow.table("bad", query="select nam, n from groups")
    assert 'column "nam" not found' in refused(flow, tmp_path).what
    flow = with_groups(tmp_path)
    bad = flow.table("bad", query="select * from groups")
    bad.output(name="{{ row.nme }}")
    assert "'row' has no field 'nme'" in str(_plan_error(flow))
    flow = with_groups(tmp_path)
    of_input = flow.table("of_input", query="select * from visits")
    of_input.output(name="{{ row.nme }}")
    error = refused(flow, tmp_path)
    assert "no column 'nme'" in error.what
    flow = with_groups(tmp_path)
    flow.table("bad", query="select name from groups", types={"name": "TEXTT"})
    assert "the type 'TEXTT', which no column can have" in refused(flow, tmp_path).what


def _plan_error(flow: sd.Flow) -> FlowError:
    with pytest.raises(FlowError) as raised:
        flow.plan()
    return raised.value


def test_a_query_that_fails_ends_the_run_and_keeps_what_was_computed(tmp_path: Path) -> None:
    flow = with_groups(tmp_path)
    flow.table("casts", query="select sum(name::bigint) as n from groups")
    with pytest.raises(SundogError, match=r"the query of the table 'casts' .*failed: Could not convert string"):
        run(flow, tmp_path)
    mended = with_groups(tmp_path)
    assert run(mended, tmp_path).report.num_executed == 3


def test_values_that_become_null_are_told(tmp_path: Path) -> None:
    flow = with_groups(tmp_path)
    flow.table("made", query="select sum(mg) / 0.0 as share from groups")
    flow.table("flown", query="select mg / 0.0 as share from mentions")
    result = run(flow, tmp_path)
    assert list(result.table("made")) == [{"share": None}]
    assert result.report.warnings == (
        "table 'made': 1 values of column 'share' are NaN or infinite, and become null",
        "table 'flown': 3 values of column 'share' are NaN or infinite, and become null",
    )


def test_too_many_rows_end_the_run(tmp_path: Path) -> None:
    flow = with_groups(tmp_path)
    flow.table("pairs", query="select a.name, b.name as other from groups a, groups b", max_rows=3)
    with pytest.raises(SundogError, match="the query of the table 'pairs' gives more than 3 rows"):
        run(flow, tmp_path)


def test_tables_that_do_not_read_each_other_run_side_by_side(tmp_path: Path) -> None:
    """Each waits for the other's step to have begun."""
    flow = visits(tmp_path, [{"id": 1}])
    for name in ("one", "two"):
        table = flow.table(name, query="select id from visits")
        table.output(text=table.python(f"meet_{name}", meet, args={"text": name}))
    result = run(flow, tmp_path)
    assert [[row["text"] for row in result.table(name)] for name in ("one", "two")] == [["one"], ["two"]]


def test_a_run_that_is_stopped_before_its_first_row_ends(tmp_path: Path) -> None:
    flow = with_groups(tmp_path)
    session = plan_session(flow.plan(), tmp_path, read_config())
    with session.open_run(RunOptions(tmp_path / "state")) as opened:
        opened.stop()
        with pytest.raises(RunStopped, match="interrupted"):
            asyncio.run(asyncio.wait_for(opened.execute(), 20))
    assert run(flow, tmp_path).report.num_executed == 3
