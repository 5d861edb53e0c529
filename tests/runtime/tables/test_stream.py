"""Rows that flow from table to table: they do not wait for each other, and are those of tables that wait."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.errors import SundogError
from sundog.optimizer.planner import plan_physical

GATE = threading.Event()
SEEN: list[Any] = []


def held(number: int) -> int:
    """Row 0 is answered when a row below that flowed out of another has been seen."""
    if number == 0:
        assert GATE.wait(20), "rows wait for each other"
    return number


def seen(number: int) -> int:
    SEEN.append(number)
    GATE.set()
    return number


def doubled(number: int) -> int:
    return number * 2


def flow_of(folder: Path, rows: list[dict[str, Any]]) -> sd.Flow:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flow = sd.Flow("streamed", base_dir=folder)
    flow.input("rows", "rows.jsonl")
    return flow


def run(flow: sd.Flow, folder: Path, **options: Any) -> sd.Result:
    return flow.run(state=folder / "state", progress=False, **options)


def chained(folder: Path, rows: list[dict[str, Any]], call: Any = doubled, after: Any = doubled) -> sd.Flow:
    flow = flow_of(folder, rows)
    one = flow.table("one", source="rows", types={"number": "BIGINT"})
    one.output(number=one.python("first", call, args={"number": one.row.number}), parts=one.row.parts)
    query = "select o.number + p.part as number from one o, unnest(o.parts) as p(part)"
    two = flow.table("two", query=query, types={"number": "BIGINT"})
    two.output(number=two.python("second", after, args={"number": two.row.number}))
    return flow


ROWS: list[dict[str, Any]] = [{"number": number, "parts": list(range(number % 3))} for number in range(40)]


def test_a_slow_row_holds_nobody_back(tmp_path: Path) -> None:
    GATE.clear()
    SEEN.clear()
    result = run(chained(tmp_path, ROWS, held, seen), tmp_path)
    assert len(result) == sum(len(row["parts"]) for row in ROWS)
    assert SEEN[0] != 0


def test_rows_are_those_of_tables_that_wait(tmp_path: Path) -> None:
    flow = chained(tmp_path, ROWS)
    streamed, waited = run(flow, tmp_path), run(flow, tmp_path, naive=True)
    assert list(streamed) == list(waited) != []
    assert [row.row_id for row in streamed][:4] == ["1.0", "2.0", "2.1", "4.0"]
    assert [row.row_id for row in waited][:4] == ["0", "1", "2", "3"]


def test_each_branch_of_a_union_flows(tmp_path: Path) -> None:
    flow = chained(tmp_path, ROWS)
    query = "select number as n from two union all select -number as n from two"
    flow.table("three", query=query)
    streamed, waited = run(flow, tmp_path), run(flow, tmp_path, naive=True)
    assert list(streamed) == list(waited)
    assert [row.row_id for row in streamed][:2] == ["0.1.0.0", "0.2.0.0"]


def test_a_stream_may_read_what_is_made_of_its_source(tmp_path: Path) -> None:
    flow = chained(tmp_path, ROWS)
    flow.table("sums", query="select number % 5 as rest, sum(number) as total from one group by rest")
    query = "select o.number, s.total from one o left join sums s on s.rest = o.number % 5"
    last = flow.table("last", query=query)
    last.output(text=last.python("third", doubled, args={"number": last.row.number}), total=last.row.total)
    streamed, waited = run(flow, tmp_path), run(flow, tmp_path, naive=True)
    assert list(streamed.table("last")) == list(waited.table("last"))
    assert len(streamed.table("last")) == len(ROWS)


def test_rows_that_a_query_cannot_take_fail_alone(tmp_path: Path) -> None:
    flow = flow_of(tmp_path, [{"text": text} for text in ("1", "x", "3", "y", "5")])
    one = flow.table("one", source="rows")
    one.output(text=one.row.text)
    two = flow.table("two", query="select text::bigint * 10 as number from one")
    two.output(number=two.python("second", doubled, args={"number": two.row.number}))
    result = run(flow, tmp_path)
    assert [row["number"] for row in result] == [20, 60, 100]
    assert [(row["table"], row["row"], row["node"]) for row in result.errors] == [
        ("two", "1.0", "inputs"), ("two", "3.0", "inputs"),
    ]  # fmt: skip
    assert "Could not convert string 'x'" in result.errors[0]["cause"]


def test_too_many_rows_end_the_run(tmp_path: Path) -> None:
    flow = flow_of(tmp_path, [{"number": 1}])
    flow.table("one", source="rows").output(number="{{ row.number }}")
    flow.table("two", query="select o.number, r.r from one o, unnest(range(100)) as r(r)", max_rows=9)
    with pytest.raises(SundogError, match="the query of the table 'two' gives more than 9 rows"):
        run(flow, tmp_path)


PLANS = {
    "select id from one": ("one", (), ""),
    "select o.id, u.p from one o, unnest(o.ps) as u(p) where p > 1": ("one", (), ""),
    "select o.id, t.id as other from one o join two t on o.id = t.id": ("one", ("two",), ""),
    "select count(*) as n from one": (None, ("one",), "it groups its rows"),
    "select distinct id from one": (None, ("one",), "it takes distinct rows"),
    "select id from one order by id limit 3": (None, ("one",), "it orders its rows"),
    "select id from rows": (None, (), ""),
}


@pytest.mark.parametrize("query", PLANS)
def test_row_wise_queries_flow_and_others_wait(tmp_path: Path, query: str) -> None:
    flow = flow_of(tmp_path, [])
    for name in ("one", "two"):
        flow.table(name, source="rows").output(id="{{ row.id }}", ps="{{ row.ps }}")
    flow.table("last", query=query)
    plan = flow.plan()
    found = plan_physical(plan, {}).table("last")
    assert (found.stream_of, found.waits_for, found.why_it_waits) == PLANS[query]
