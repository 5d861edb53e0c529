"""`reduce`: what a run over the tables that it stands for gives, and which texts meet in a prompt."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sundog as sd
from sundog.errors import FlowError, RunStopped
from sundog.flow.example import example_plan

BIG = 100
"""Tokens of texts in a prompt."""
Row = tuple[str | None, str | None]


class Model:
    """Answers with the numbers of a prompt in their order, `#1 #2`; breaks where one of `broken` is among them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken: set[str] = set()
        self.ending = ""

    def answer(self, model: str, request: Any, output_tokens: int | None) -> tuple[str, str]:
        prompt = request.messages[-1].content
        self.asked.append(prompt)
        found = list(dict.fromkeys(re.findall(r"#\d+", prompt)))
        if request.json_schema is None:
            return " ".join(found) + self.ending, "stop"
        is_broken = self.broken & set(found)
        return "{}" if is_broken else json.dumps({"every": " ".join(found), "n": len(found), "ids": found}), "stop"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    model = Model()
    monkeypatch.setattr("sundog.engines.modelled.null.modelled_answer", model.answer)
    return model


def texts(num_rows: int, wards: str = "ab", words: int = 5) -> list[Row]:
    return [(wards[number % len(wards)], f"#{number} " + "word " * (number % words)) for number in range(num_rows)]


def flow_of(folder: Path, rows: Iterable[Row], **more: Any) -> sd.Flow:
    with (folder / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "ward", "note"), *((at, *row) for at, row in enumerate(rows))])
    flow = sd.Flow("f", base_dir=folder)
    flow.engine("local", kind="null")
    flow.input("rows", "rows.csv", types={"id": "BIGINT", "ward": "VARCHAR", "note": "VARCHAR"})
    words: dict[str, Any] = {
        "by": "ward",
        "text": "note",
        "prompt": "Of {{ row.ward }}:",
        "max_tokens": 20,
        "max_prompt_tokens": BIG,
    }
    flow.reduce("told", source="rows", engine="local", **(words | more))
    return flow


def run(flow: sd.Flow, folder: Path, **options: Any) -> sd.Result:
    return flow.run(state=folder / "state", progress=False, **options)


def numbers(rows: Iterable[dict[str, Any]], column: str = "text") -> dict[Any, list[int]]:
    return {row["ward"]: [int(one) for one in re.findall(r"\d+", row[column])] for row in rows}


def test_every_text_of_a_group_is_read_once_and_in_order(tmp_path: Path, model: Model) -> None:
    result = run(flow_of(tmp_path, texts(200)), tmp_path)
    assert numbers(result) == {"a": list(range(0, 200, 2)), "b": list(range(1, 200, 2))}
    leaves = [prompt for prompt in model.asked if "word" in prompt]
    assert len(leaves) > 10
    # As many texts as fit: a text is of 10 to 17 tokens here.
    assert all(2 <= len(re.findall("#", prompt)) <= 10 for prompt in leaves[:-4])
    assert max(len(prompt) for prompt in leaves) < BIG * 4


@pytest.mark.parametrize("number", [0, 1, 2])
def test_small_sets(tmp_path: Path, model: Model, number: int) -> None:
    result = run(flow_of(tmp_path, texts(number)), tmp_path)
    assert numbers(result) == dict([("a", [0]), ("b", [1])][:number])
    assert len(model.asked) == number


def test_all_rows_are_one_group_where_nothing_tells_them_apart(tmp_path: Path, model: Model) -> None:
    more = {"by": (), "prompt": "All:", "merge": "Of these:"}
    (row,) = run(flow_of(tmp_path, texts(50), **more), tmp_path)
    assert row["text"] == " ".join(f"#{number}" for number in range(50))
    assert {prompt.split("\n")[0] for prompt in model.asked} == {"All:", "Of these:"}
    assert list(run(flow_of(tmp_path, [], **more), tmp_path)) == []


def test_rows_without_a_text_add_nothing_and_groups_without_one_stay(tmp_path: Path, model: Model) -> None:
    rows: list[Row] = [("a", "#1"), ("b", None), (None, "#2"), ("a", None), (None, "#3")]
    result = [(row["ward"], row["text"]) for row in run(flow_of(tmp_path, rows, prompt="Of:"), tmp_path)]
    assert result == [("a", "#1"), ("b", None), (None, "#2 #3")]
    assert sorted(model.asked) == ["Of:\n\n#1", "Of:\n\n#2\n\n---\n\n#3"]


def test_texts_of_any_type_are_read_as_text(tmp_path: Path, model: Model) -> None:
    """A column whose type nobody knows holds JSON, and is no text in quotes."""
    flow_of(tmp_path, [("a", '#1 "so"'), ("a", None)])
    flow = sd.Flow("f", base_dir=tmp_path)
    flow.engine("local", kind="null")
    flow.input("rows", "rows.csv", types={"note": "VARCHAR"})
    read = flow.table("read", source="rows")
    read.output(note="{{ row.note or none }}", number=read.row.id)
    words: dict[str, Any] = {"source": "read", "engine": "local", "prompt": "Of:"}
    flow.reduce("told", text="note", **words)
    flow.reduce("counted", text="number", **words)
    run(flow, tmp_path)
    assert sorted(model.asked) == ['Of:\n\n#1 "so"', "Of:\n\n0\n\n---\n\n1"]


def test_texts_come_in_the_order_that_is_asked_for(tmp_path: Path, model: Model) -> None:
    result = run(flow_of(tmp_path, texts(60), order_by="id % 10 desc, id"), tmp_path)
    wanted = sorted(range(0, 60, 2), key=lambda number: (-(number % 10), number))
    assert numbers(result)["a"] == wanted


def test_fields_of_the_last_answer_are_columns_with_types(tmp_path: Path, model: Model) -> None:
    flow = flow_of(tmp_path, texts(60), output={"every": "str", "n": "int", "ids": "list[str]"})
    flow.table("counted", query="select ward, n + 1 as more, len(ids) as num, every[:2] as first from told")
    flow.results("told", "counted")
    result = run(flow, tmp_path)
    first, _ = result.table("told")
    assert first["ward"] == "a"
    assert (first["n"], first["ids"]) == (30, [f"#{number}" for number in range(0, 60, 2)])
    assert [(row["more"], row["num"], row["first"]) for row in result.table("counted")] == [
        (31, 30, "#0"),
        (31, 30, "#1"),
    ]


def failing(folder: Path, **more: Any) -> sd.Flow:
    return flow_of(folder, texts(120, "abc"), output={"every": "str", "n": "int", "ids": "list[str]"}, **more)


def test_a_part_that_failed_fails_its_group_and_no_other(tmp_path: Path, model: Model) -> None:
    model.broken = {"#4"}
    result = run(failing(tmp_path), tmp_path)
    assert sorted(numbers(result, "every")) == ["a", "c"]
    # The chunk is told, and the group; what lies between is neither told nor counted as failed.
    chunk, group = result.errors
    assert (group["table"], group["because_of"]) == ("told__groups", ["told__0"])
    assert group["cause"].endswith("1 of 1 parts of the group ward = \"b\" failed: rows of 'told__0'")
    assert (chunk["table"], "because_of" in chunk) == ("told__0", False)
    assert (result.report.num_failed, result.report.num_not_run) == (1, 6)
    assert "1 failed, 6 not run because of it" in str(result.report)


def test_a_mended_part_mends_its_group_and_asks_nothing_else_again(tmp_path: Path, model: Model) -> None:
    whole = list(run(failing(tmp_path), tmp_path / "other"))
    num_calls, model.asked = len(model.asked), []
    model.broken = {"#4"}
    run(failing(tmp_path), tmp_path)
    num_before, model.asked, model.broken = len(model.asked), [], set()
    assert list(run(failing(tmp_path), tmp_path, retry_failed=True)) == whole
    # The chunk that failed is asked for again, and what is made of it for the first time.
    assert num_before + len(model.asked) == num_calls + 1
    assert all("#4" in prompt for prompt in model.asked)


def test_answers_do_not_decide_which_texts_meet(tmp_path: Path, model: Model) -> None:
    def shape(folder: Path, **options: Any) -> list[list[Any]]:
        folder.mkdir()
        run(flow_of(folder, texts(150)), folder, **options)
        (made,) = (folder / "state").glob("runs/*/tables")
        keys = ("ward", "reduce__part", "reduce__num_parts", "reduce__key")
        return [
            [
                [json.loads(line)[key] for key in keys]
                for line in (made / f"told__{level}.jsonl").read_text().splitlines()
            ]
            for level in range(6)
        ]

    first = shape(tmp_path / "one")
    model.ending = " and so on" * 30
    assert shape(tmp_path / "two", max_rows_in_flight=1) == first


def test_a_row_put_in_between_changes_what_is_near_it(tmp_path: Path, model: Model) -> None:
    """Without ends that hashes decide, each chunk behind it would be another."""
    rows = texts(1000, "a")
    run(flow_of(tmp_path, rows), tmp_path)
    num_calls, model.asked = len(model.asked), []
    run(flow_of(tmp_path, [*rows[:100], ("a", "#5000 new"), *rows[100:]]), tmp_path)
    assert 0 < len(model.asked) < num_calls / 5


def test_a_text_that_fits_no_prompt_fails_its_group(tmp_path: Path, model: Model) -> None:
    rows: list[Row] = [*texts(40), ("b", "#77 " + "long " * 100)]
    result = run(flow_of(tmp_path, rows), tmp_path)
    assert list(numbers(result)) == ["a"]
    (cause,) = (row["cause"] for row in result.errors if row["table"] == "told__0")
    assert "a text of about 166 tokens does not fit into a prompt with 100 tokens of texts" in cause


def test_too_many_texts_for_the_levels_fail_their_group(tmp_path: Path, model: Model) -> None:
    rows = [*texts(200, "a"), ("b", "#1000")]
    result = run(flow_of(tmp_path, rows, max_levels=2), tmp_path)
    assert numbers(result) == {"b": [1000]}
    (cause,) = (row["cause"] for row in result.errors)
    assert re.search(r"still \d+ parts after 2 levels: raise max_levels", cause)


def test_a_fold_reads_one_chunk_after_the_other(tmp_path: Path, model: Model) -> None:
    flow = flow_of(tmp_path, texts(60), fold="More of {{ row.ward }}:")
    assert numbers(run(flow, tmp_path)) == {"a": list(range(0, 60, 2)), "b": list(range(1, 60, 2))}
    (first,) = (prompt for prompt in model.asked if prompt.startswith("Of b:"))
    assert first.startswith("Of b:\n\n#1 word")
    later = [prompt for prompt in model.asked if prompt.startswith("More of b:\n\nSo far:\n#1 #3 ")]
    assert len(later) == sum("of b:" in prompt.lower() for prompt in model.asked) - 1 > 2


def test_a_fold_asks_nothing_about_chunks_without_a_text(tmp_path: Path, model: Model) -> None:
    rows: list[Row] = [("a", "#1 here"), *[("a", None)] * 40, ("a", "#2 there"), *[("b", None)] * 3]
    result = run(flow_of(tmp_path, rows, fold="More of {{ row.ward }}:"), tmp_path)
    assert [(row["ward"], row["text"]) for row in result] == [("a", "#1 #2"), ("b", None)]
    assert len(model.asked) == 2


def test_rows_of_the_source_that_failed_stop_the_run_or_are_left_out(tmp_path: Path, model: Model) -> None:
    model.broken = {"#4"}
    with pytest.raises(RunStopped, match="'told__0' needs all rows of 'read', and 1 of them failed"):
        run(source_flow(tmp_path), tmp_path)
    result = run(source_flow(tmp_path, failed_rows="leave_out"), tmp_path)
    assert numbers(result)["a"] == [0, 2, *range(6, 20, 2)]


def source_flow(folder: Path, **more: Any) -> sd.Flow:
    flow_of(folder, texts(20))
    flow = sd.Flow("f", base_dir=folder)
    flow.engine("local", kind="null")
    flow.input("rows", "rows.csv", types={"id": "BIGINT", "ward": "VARCHAR", "note": "VARCHAR"})
    read = flow.table("read", source="rows")
    form = {"every": "str", "n": "int", "ids": "list[str]"}
    said = read.llm("say", engine="local", prompt=read.row.note, output=form)
    read.output(ward=read.row.ward, note=said.every)
    flow.reduce("told", source="read", by="ward", text="note", engine="local", prompt="Of:", **more)
    return flow


@settings(max_examples=8)
@given(sizes=st.lists(st.integers(0, 90), max_size=60), columns=st.sampled_from([("ward",), ("ward", "id"), ()]))
def test_no_prompt_has_more_texts_than_fit(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], columns: tuple[str, ...]
) -> None:
    folder, asked = tmp_path_factory.mktemp("reduce"), Model()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sundog.engines.modelled.null.modelled_answer", asked.answer)
        rows = [("ab"[number % 2], f"#{number} " + "x" * 3 * size) for number, size in enumerate(sizes)]
        found = list(run(flow_of(folder, rows, by=columns, prompt="Of:"), folder))
    every = [one for row in found for one in re.findall(r"#\d+", row["text"])]
    assert sorted(every) == sorted(f"#{number}" for number in range(len(sizes)))
    assert all(len(prompt) <= BIG * 4 for prompt in asked.asked)


def test_an_estimate_knows_the_tree_before_anything_runs(tmp_path: Path, model: Model) -> None:
    flow = flow_of(tmp_path, texts(150))
    told = {one["name"]: one["num_rows"] for one in json.loads(str(flow.explain("json", state=tmp_path)))["tables"]}
    assert model.asked == []
    run(flow, tmp_path)
    (made,) = (tmp_path / "state").glob("runs/*/tables")
    for name in (*(f"told__{level}" for level in range(6)), "told__groups"):
        num_rows = len((made / f"{name}.jsonl").read_text().splitlines())
        assert told[name] == {"low": num_rows, "expected": num_rows, "high": num_rows}, name


def test_a_file_and_python_give_equal_plans(tmp_path: Path, model: Model) -> None:
    written = """
    name: f
    engines: {local: {kind: "null"}}
    inputs: {rows: {path: rows.csv, types: {id: BIGINT, ward: VARCHAR, note: VARCHAR}}}
    tables:
      told:
        reduce: {source: rows, by: ward, text: note, engine: local, prompt: "Of {{ row.ward }}:", max_tokens: 20,
                 max_prompt_tokens: 100, fold: More, as: said, output: {every: str}}
        nodes: {is_said: {filter: "{{ row.every }}"}}
        outputs: {ward: "{{ row.ward }}"}
    """
    flow = sd.Flow("f", base_dir=tmp_path)
    flow.engine("local", kind="null")
    flow.input("rows", "rows.csv", types={"id": "BIGINT", "ward": "VARCHAR", "note": "VARCHAR"})
    words: dict[str, Any] = {
        "prompt": "Of {{ row.ward }}:",
        "max_tokens": 20,
        "max_prompt_tokens": BIG,
        "fold": "More",
        "as_": "said",
    }
    told = flow.reduce("told", source="rows", by="ward", text="note", engine="local", output={"every": "str"}, **words)
    told.filter("is_said", told.row.every)
    told.output(ward=told.row.ward)
    assert flow.plan() == example_plan(written)


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"max_tokens": 50}, "two answers of max_tokens 50 do not fit into one prompt of max_prompt_tokens 100"),
        ({"fold": "More", "merge": "More"}, "either 'merge' or 'fold'"),
        ({"text": "notes"}, 'column named "notes"'),
        ({"by": ["ward", "wards"]}, 'column named "wards"'),
        ({"order_by": "random()"}, "random"),
        ({"as_": "ward"}, "'ward' is a column of 'by' and one of the answer"),
        ({"output": {"every": "string"}}, "unknown type 'string'"),
        ({"prompt": "Of {{ row.wards }}"}, "wards"),
        ({"prompt": "Of {{ wards }}"}, "unknown name 'wards'"),
        ({"max_levels": 11}, "must be less than or equal to 10"),
    ],
)
def test_mistakes_are_told_before_anything_runs(tmp_path: Path, model: Model, more: dict[str, Any], what: str) -> None:
    with pytest.raises(FlowError) as raised:
        run(flow_of(tmp_path, texts(3), **more), tmp_path)
    assert what in str(raised.value)
    assert model.asked == []
