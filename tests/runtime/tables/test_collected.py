"""Rows that are equal in some columns become one row with a list."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.errors import FlowError, RunError
from sundog.execution.input_row import BadRow
from sundog.ir.logical import InputSource, Table
from sundog.ir.sql_types import PlainType
from sundog.ir.tables import CollectedRows
from sundog.queries.parsed import parse_query
from sundog.runtime.rows.inputs import ALL_ROWS
from sundog.runtime.tables.made import made_rows, make
from sundog.runtime.tables.relations import Relations


def collect(sql: str, by: tuple[str, ...], as_: str = "rows", **more: Any) -> CollectedRows:
    return CollectedRows(sql, parse_query(sql).reads, by, as_, **more)


@pytest.fixture
def rows_of(tmp_path: Path) -> Iterator[Any]:
    """The rows that a source gives over `visits`."""
    (tmp_path / "visits.csv").write_text("ward,id,text\nb,3,x\na,1,y\nb,2,z\n,4,u\na,1,y\n,5,v\n")
    relations = Relations([InputSource("visits", path="visits.csv")], tmp_path, None, ALL_ROWS, {"least": 2})
    relations.load_input("visits")

    def rows(source: CollectedRows, **more: Any) -> list[Any]:
        table = Table("t", source, (), (), **more)
        make(table, relations, tmp_path / "made")
        opened = made_rows(table, tmp_path / "made")
        found = [row for batch in opened.batches() for _, row in batch]
        opened.close()
        (tmp_path / "made" / "t.jsonl").unlink()
        return found

    yield rows
    relations.close()


def test_groups_come_in_the_order_of_their_first_rows(rows_of: Any) -> None:
    """Equal rows stay two, and rows without a value are a group."""
    assert rows_of(collect("select ward, id from visits", ("ward",))) == [
        {"ward": "b", "rows": [{"id": 3}, {"id": 2}]},
        {"ward": "a", "rows": [{"id": 1}, {"id": 1}]},
        {"ward": None, "rows": [{"id": 4}, {"id": 5}]},
    ]


def test_the_querys_order_is_that_of_groups_and_lists(rows_of: Any) -> None:
    sql = "select text, ward, id from visits where id >= $least order by id desc"
    assert rows_of(collect(sql, ("ward",), "given")) == [
        {"ward": None, "given": [{"text": "v", "id": 5}, {"text": "u", "id": 4}]},
        {"ward": "b", "given": [{"text": "x", "id": 3}, {"text": "z", "id": 2}]},
    ]


def test_several_columns_make_a_group(rows_of: Any) -> None:
    found = rows_of(collect("select ward, id, text from visits where ward is not null", ("id", "ward")))
    assert found == [
        {"id": 3, "ward": "b", "rows": [{"text": "x"}]},
        {"id": 1, "ward": "a", "rows": [{"text": "y"}, {"text": "y"}]},
        {"id": 2, "ward": "b", "rows": [{"text": "z"}]},
    ]


def test_a_group_that_is_too_large_fails_alone(rows_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = "select ward, id from visits where ward is not null or id = 4"
    assert rows_of(collect(sql, ("ward",), max_group_rows=1)) == [
        BadRow('the group ward = "b" has 2 rows, and max_group_rows is 1'),
        BadRow('the group ward = "a" has 2 rows, and max_group_rows is 1'),
        {"ward": None, "rows": [{"id": 4}]},
    ]
    monkeypatch.setattr("sundog.runtime.tables.collected.MAX_GROUP_BYTES", 39)
    first, *_, last = rows_of(collect(sql, ("ward",)))
    assert isinstance(first, BadRow)
    assert first.reason.startswith('the rows of the group ward = "b" are ')
    assert last == {"ward": None, "rows": [{"id": 4}]}


def test_a_row_that_no_value_can_be_fails_its_group(rows_of: Any) -> None:
    deep = "'[' || repeat('[', 300) || repeat(']', 300) || ']'"
    sql = f"select ward, case when id = 2 then ({deep})::json else '1'::json end as value from visits"
    bad, good, _ = rows_of(collect(sql, ("ward",)))
    assert isinstance(bad, BadRow)
    assert "nested" in bad.reason
    assert good == {"ward": "a", "rows": [{"value": 1}, {"value": 1}]}


def test_no_rows_are_no_groups(rows_of: Any) -> None:
    assert rows_of(collect("select ward, id from visits where id > 99", ("ward",))) == []


def test_a_query_of_too_many_rows_ends_the_run(rows_of: Any) -> None:
    with pytest.raises(RunError, match="gives more than 5 rows"):
        rows_of(collect("select a.ward, b.id from visits a, visits b", ("ward",)), max_rows=5)


def told(given: list[dict[str, Any]]) -> str:
    return " then ".join(one["text"] for one in given)


def with_histories(folder: Path, **of_collect: Any) -> sd.Flow:
    (folder / "visits.jsonl").write_text(
        '{"ward":"b","text":"x"}\n{"ward":"a","text":"y"}\n{"ward":"b","text":"z"}\n{"ward":"b","text":"z"}\n'
    )
    flow = sd.Flow("wards", base_dir=folder)
    flow.input("visits", "visits.jsonl")
    read = flow.table("read", source="visits")
    read.output(ward=read.row.ward, text="{{ row.text | upper }}")
    collect = {"query": f"select ward, text from {read}", "by": "ward", "as": "given", **of_collect}
    histories = flow.table("histories", collect=collect)
    tell = histories.python("tell", told, args={"given": histories.row.given})
    histories.output(ward=histories.row.ward, given=histories.row.given, about=tell)
    flow.table("first", query="select ward, given[1].text as text, len(given) as n from histories")
    flow.results("histories", "first")
    return flow


def test_a_column_of_numbers_orders_rows_and_groups(rows_of: Any) -> None:
    sql = "select ward, id, text, case when id < 5 then -id end as place from visits where id > 1"
    assert rows_of(collect(sql, ("ward",), order_by="place")) == [
        {"ward": None, "rows": [{"id": 5, "text": "v"}, {"id": 4, "text": "u"}]},
        {"ward": "b", "rows": [{"id": 3, "text": "x"}, {"id": 2, "text": "z"}]},
    ]


def test_equal_numbers_leave_groups_apart(rows_of: Any) -> None:
    found = rows_of(collect("select ward, id, 7 as place from visits", ("ward",), order_by="place"))
    assert sorted(str(row["ward"]) for row in found) == ["None", "a", "b"]
    assert sum(len(row["rows"]) for row in found) == 6


@pytest.mark.parametrize(
    ("order_by", "message"),
    [("text", "needs whole numbers of at most 64 bits, and 'text' is VARCHAR"), ("txt", "no column 'txt' to order by")],
)
def test_an_order_is_a_column_of_numbers(tmp_path: Path, order_by: str, message: str) -> None:
    flow = with_histories(tmp_path)
    flow.table("more", collect={"query": "select *, 1 as one from visits", "by": "ward", "order_by": order_by})
    flow.results("more")
    with pytest.raises(FlowError, match=message):
        flow.run(state=tmp_path / "state", progress=False)


def test_steps_run_over_groups_and_queries_read_their_lists(tmp_path: Path) -> None:
    result = with_histories(tmp_path).run(state=tmp_path / "state", progress=False)
    assert [(row["ward"], row["about"]) for row in result.table("histories")] == [
        ("b", "X then Z then Z"),
        ("a", "Y"),
    ]
    assert list(result.table("first")) == [{"ward": "b", "text": "X", "n": 3}, {"ward": "a", "text": "Y", "n": 1}]


def test_a_group_that_is_too_large_is_a_failed_row(tmp_path: Path) -> None:
    flow = with_histories(tmp_path, max_group_rows=2)
    flow.results("histories")
    flow.run(state=tmp_path / "state", progress=False, output=tmp_path / "out.csv")
    (failed,) = map(json.loads, (tmp_path / "out.csv.errors.jsonl").read_text().splitlines())
    assert failed["cause"].endswith('the group ward = "b" has 3 rows, and max_group_rows is 2')


def test_columns_that_only_the_input_tells_are_checked_before_anything_runs(tmp_path: Path) -> None:
    flow = with_histories(tmp_path)
    flow.table("more", collect={"query": "select * from visits", "by": "wards"})
    with pytest.raises(FlowError, match="the query gives no column 'wards' to collect by"):
        flow.run(state=tmp_path / "state", progress=False)


def test_zeros_are_one_group(rows_of: Any) -> None:
    sql = "select case id when 2 then -0.0::double else 0.0::double end as zero, id from visits where id < 4"
    assert [len(row["rows"]) for row in rows_of(collect(sql, ("zero",)))] == [4]


NUM_LONG = 3000


def long_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_memory_mb: int) -> Relations:
    """Rows that together are more than `max_memory_mb`, of which queries take 16 at first."""
    monkeypatch.setattr("sundog.runtime.tables.query_memory.MIN_MEMORY_MB", 16)
    monkeypatch.setattr("sundog.runtime.tables.query_memory.MAX_MEMORY_MB", max_memory_mb)
    relations = Relations([], tmp_path, None, ALL_ROWS, {})
    relations.with_room(lambda: relations.load("visits", LONG_COLUMNS, long_lines()))
    return relations


LONG_COLUMNS = (("id", PlainType("BIGINT")), ("text", PlainType("VARCHAR")))


def long_lines() -> Iterator[bytes]:
    return (json.dumps({"id": number, "text": f"{number:08}" * 3000}).encode() for number in range(NUM_LONG))


@pytest.mark.parametrize(
    ("sql", "order_by"),
    [
        ("select id, id % 30 as ward, text from visits", None),
        (
            "select s.id, s.id % 30 as ward, h.place, s.text from (select rowid as number, row_number() over (order by"
            " rowid) as place from visits) h join visits s on s.rowid = h.number",
            "place",
        ),
    ],
    ids=["no order", "order of numbers"],
)
def test_long_rows_are_collected_in_less_memory_than_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str, order_by: str | None
) -> None:
    relations = long_rows(tmp_path, monkeypatch, 128)
    table = Table("t", collect(sql, ("ward",), order_by=order_by), (), ())
    relations.with_room(lambda: make(table, relations, tmp_path / "made"))
    groups = [group for batch in made_rows(table, tmp_path / "made").batches() for _, group in batch]
    assert [isinstance(group, dict) and (group["ward"], [row["id"] for row in group["rows"]]) for group in groups] == [
        (ward, list(range(ward, NUM_LONG, 30))) for ward in range(30)
    ]
    relations.close()


def test_long_rows_of_an_input_get_the_memory_that_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.runtime.tables.query_memory.MIN_MEMORY_MB", 16)
    (tmp_path / "notes.jsonl").write_bytes(b"\n".join(long_lines()))
    relations = Relations([InputSource("notes", path="notes.jsonl")], tmp_path, None, ALL_ROWS, {})
    assert relations.input_columns("notes") == LONG_COLUMNS
    relations.load_input("notes")
    assert relations.num_rows("notes") == NUM_LONG
    relations.close()


def test_rows_that_are_too_long_for_the_memory_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match=r"needs more memory than it may take"):
        long_rows(tmp_path, monkeypatch, 24)
