"""Rows that failed and the tables that read them: a run stops, leaves them out, or marks what they belong to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.errors import FlowError, RunStopped
from sundog.queries.marked import why_not_marked
from sundog.queries.parsed import parse_query

WARDS = "babacab"


class Model:
    """Answers with the length of a prompt; breaks for prompts that hold a letter of `broken`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken = ""

    def answer(self, model: str, request: Any, output_tokens: int | None) -> tuple[str, str]:
        prompt = request.messages[-1].content
        self.asked.append(prompt)
        is_broken = any(letter in prompt for letter in self.broken)
        return "{}" if is_broken else json.dumps({"size": len(prompt)}), "stop"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    model = Model()
    monkeypatch.setattr("sundog.engines.modelled.null.modelled_answer", model.answer)
    return model


def flow_of(folder: Path, query: str = "select ward, id, size from read", **more: Any) -> sd.Flow:
    """Rows `ward`, `id`, each with a call; `groups` collects them."""
    rows = [{"ward": ward, "id": number} for number, ward in enumerate(WARDS)]
    flow = sd.Flow("f", base_dir=folder)
    flow.engine("local", kind="null")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flow.input("rows", "rows.jsonl")
    read = flow.table("read", source="rows")
    sizes = read.llm("ask", engine="local", prompt="<{{ row.id }}>", output={"size": "int"})
    read.output(ward=read.row.ward, id=read.row.id, size=sizes.size)
    groups = flow.table("groups", collect={"query": query, "by": "ward"}, **({"failed_rows": "mark"} | more))
    told = groups.llm("tell", engine="local", prompt="{{ row.ward }}: {{ row.rows }}", output={"size": "int"})
    groups.output(ward=groups.row.ward, ids="{{ row.rows | map(attribute='id') | list }}", told=told.size)
    return flow


def run(flow: sd.Flow, folder: Path, **options: Any) -> sd.Result:
    return flow.run(state=folder / "state", progress=False, **options)


def wards(result: sd.Result) -> list[tuple[str, list[int]]]:
    return [(row["ward"], row["ids"]) for row in result.table("groups")]


WHOLE = [("b", [0, 2, 6]), ("a", [1, 3, 5]), ("c", [4])]


def test_a_failed_row_fails_its_group_and_no_other(tmp_path: Path, model: Model) -> None:
    model.broken = "26"
    result = run(flow_of(tmp_path), tmp_path)
    assert wards(result) == WHOLE[1:]
    errors = [(row["table"], row["row"], row["node"], row["cause"]) for row in result.errors]
    assert [error[:3] for error in errors] == [("groups", "0", "inputs"), ("read", "2", "ask"), ("read", "6", "ask")]
    assert errors[0][3].endswith("2 of 3 parts of the group ward = \"b\" failed: rows of 'read'")
    assert all("known" not in row and "made_of" not in row for row in result.errors)
    assert [row.get("because_of") for row in result.errors] == [["read"], None, None]
    assert (result.report.num_failed, result.report.num_not_run) == (2, 1)


def test_mended_rows_mend_their_group_and_ask_nothing_else_again(tmp_path: Path, model: Model) -> None:
    """Groups keep their numbers, also one all of whose rows failed."""
    model.broken = "0264"
    assert wards(run(flow_of(tmp_path), tmp_path)) == [WHOLE[1]]
    model.broken, model.asked = "", []
    result = run(flow_of(tmp_path), tmp_path, retry_failed=True)
    assert wards(result) == WHOLE
    assert list(result.errors) == []
    assert sorted(prompt for prompt in model.asked if "<" in prompt) == ["<0>", "<2>", "<4>", "<6>"]
    assert sorted(prompt[0] for prompt in model.asked if "<" not in prompt) == ["b", "c"]


def test_a_group_that_failed_by_itself_is_tried_again_alone(tmp_path: Path, model: Model) -> None:
    model.broken = "c6"
    assert wards(run(flow_of(tmp_path), tmp_path)) == [WHOLE[1]]
    model.broken, model.asked = "6", []
    assert wards(run(flow_of(tmp_path), tmp_path, retry_failed=True)) == WHOLE[1:]
    assert [prompt for prompt in model.asked if "<" not in prompt] == ["c: [{'id': 4, 'size': 3}]"]


def test_the_querys_filter_and_order_hold_for_failed_rows_too(tmp_path: Path, model: Model) -> None:
    model.broken = "26"
    query = "select r.ward, size, r.id from read r where r.id <> 2 order by id desc"
    assert wards(run(flow_of(tmp_path, query), tmp_path)) == [("a", [5, 3, 1]), ("c", [4])]
    model.broken = "2"
    result = run(flow_of(tmp_path, query), tmp_path, retry_failed=True)
    assert wards(result) == [("b", [6, 0]), ("a", [5, 3, 1]), ("c", [4])]


def test_an_effect_of_a_group_happens_once_when_another_group_is_mended(tmp_path: Path, model: Model) -> None:
    def flow() -> sd.Flow:
        made = flow_of(tmp_path)
        sent = made.table("sent", collect={"query": "select ward, id from read", "by": "ward"}, failed_rows="mark")
        path = str(tmp_path / "log")
        sent.python("send", "tests.runtime.tables.test_failed_sources:send", args={"to": path, "ward": sent.row.ward},
                    effect=True)  # fmt: skip
        sent.output(ward=sent.row.ward)
        return made

    model.broken = "26"
    run(flow(), tmp_path)
    model.broken = ""
    run(flow(), tmp_path, retry_failed=True)
    assert sorted((tmp_path / "log").read_text()) == ["a", "b", "c"]


def send(to: str, ward: str) -> None:
    with Path(to).open("a") as file:
        file.write(ward)


def test_a_row_whose_group_nobody_knows_stops_the_run(tmp_path: Path, model: Model) -> None:
    flow = flow_of(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"ward": "a", "id": 1}\n{"ward": "b", "id": ' + "[" * 300 + "]" * 300 + "}\n")
    with pytest.raises(RunStopped, match="row 1 of 'read' failed before its column 'ward' was known"):
        run(flow, tmp_path)


def test_rows_that_failed_above_a_flowing_table_are_missed_too(tmp_path: Path, model: Model) -> None:
    """A row that failed has no children in a table that flows out of its own."""
    model.broken = "2"
    flow = flow_of(tmp_path, "select ward, id, size from view")
    flow.table("view", query="select ward, id, size from read where id < 10")
    with pytest.raises(RunStopped, match="'groups' needs all rows of 'view', which flow out of 'read', and 1 of them"):
        run(flow, tmp_path)
    flow = flow_of(tmp_path, "select ward, id, size from view")
    flow.table("view", query="select ward, id, size from read where id < 10", failed_rows="leave_out")
    assert wards(run(flow, tmp_path)) == [("b", [0, 6]), *WHOLE[1:]]


def test_tables_below_a_flowing_one_are_made_anew_with_mended_rows(tmp_path: Path, model: Model) -> None:
    model.broken = "2"

    def flow() -> sd.Flow:
        made = flow_of(tmp_path, "select ward, id, size from view", failed_rows="leave_out")
        made.table("view", query="select ward, id, size from read where id < 10")
        return made

    assert wards(run(flow(), tmp_path)) == [("b", [0, 6]), *WHOLE[1:]]
    model.broken = ""
    assert wards(run(flow(), tmp_path, retry_failed=True)) == WHOLE


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("select ward, size from read", None),
        ("select * from read", None),
        ("select lower(r.ward) as ward, size from read as r where r.id > 1 and ward <> 'x' order by id, r.ward", None),
        ("select ward, size from read where size > 1", "it filters by 'size', which a failed row does not have"),
        ("select ward, id from read order by size", "it orders by 'size'"),
        ("select ward, size as s from read order by s", "it orders by 'size'"),
        ("select ward, id from read order by 1", "it orders by '1'"),
        ("select size as ward, id from read", "it groups by 'size'"),
        ("select ward || size as ward, id from read", "it groups by 'size'"),
        ("select ward, id from read limit 3", "it does more"),
        ("select distinct ward, id from read", "it does more"),
        ("select ward, id from read union all select ward, id from read", "it does more"),
        ("select ward, row_number() over () as id from read", "it reads more"),
        ("select ward, u.x as id from read, unnest([1]) as u(x)", "it reads more"),
        ("select r.ward, o.id from read r join other o on o.id = r.id", "it reads more"),
        ("select ward, id from read where id in (select id from other)", "it reads more"),
        ("select ward, count(*) as n from read group by ward", "it groups its rows itself"),
    ],
)
def test_queries_that_can_place_a_failed_row(sql: str, why: str | None) -> None:
    found = why_not_marked(parse_query(sql), ("ward", "ID"), ("ward",))
    assert found == why if why is None else found is not None and found.startswith(why)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda flow: flow.table("more", query="select id from read", failed_rows="mark"), "belongs to 'collect'"),
        (
            lambda flow: flow.table("more", collect={"query": "select id, ward from rows", "by": "id"},
                                    failed_rows="mark"),
            "'rows' is an input",
        ),
        (
            lambda flow: flow.table("more", collect={"query": "select id, size from read", "by": "size"},
                                    failed_rows="mark"),
            "it groups by 'size', which a failed row does not have",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_anything_runs(
    tmp_path: Path, model: Model, change: Callable[[sd.Flow], Any], what: str
) -> None:
    flow = flow_of(tmp_path)
    change(flow)
    with pytest.raises(FlowError) as raised:
        run(flow, tmp_path)
    assert what in str(raised.value)
    assert model.asked == []
