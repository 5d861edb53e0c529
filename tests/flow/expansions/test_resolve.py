"""`resolve`: the tables that it stands for, and what a run over them gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.errors import FlowError, Location, RunError, RunStopped
from sundog.flow.bind import load_flow
from sundog.ir.logical import LogicalPlan
from sundog.ir.tables import ComponentRows, QueryRows

DRUGS = ["Aspirin", "aspirine", "Ibuprofen", None, "aspirin", "Aspirin", "ibu"]
MEANINGS = {"Aspirin": 1, "aspirine": 1, "aspirin": 1, "Ibuprofen": 2, "ibu": 2}


class Judge:
    """Stands for the model: says of each prompt "left|right" whether both mean the same."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.unreadable: set[tuple[str, str]] = set()

    def answer(self, model: str, request: Any, output_tokens: int | None) -> tuple[str, str]:
        left, _, right = request.messages[-1].content.partition("|")
        self.asked.append((left, right))
        if (left, right) in self.unreadable:
            return '{"same": "perhaps"}', "stop"
        return json.dumps({"same": MEANINGS[left] == MEANINGS[right]}), "stop"


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    judge = Judge()
    monkeypatch.setattr("sundog.engines.modelled.null.modelled_answer", judge.answer)
    return judge


def flow_of(folder: Path, drugs: Sequence[str | None] = DRUGS, **resolve: Any) -> sd.Flow:
    lines = [json.dumps({"visit": number, "drug": drug}) + "\n" for number, drug in enumerate(drugs)]
    (folder / "mentions.jsonl").write_text("".join(lines))
    flow = sd.Flow("drugs", base_dir=folder)
    local = flow.engine("local", kind="null")
    flow.input("mentions", "mentions.jsonl")
    words = {"source": "mentions", "column": "drug", "engine": local, "prompt": "{{ row.left }}|{{ row.right }}"}
    flow.resolve("drugs", **{**words, **resolve})
    return flow


def run(flow: sd.Flow, folder: Path, **options: Any) -> sd.Result:
    return flow.run(state=folder / "state", progress=False, **options)


def canonical(result: sd.Result) -> list[Any]:
    return [row["canonical"] for row in result]


def test_values_that_mean_the_same_get_one_value(tmp_path: Path, judge: Judge) -> None:
    """Each row stays, in its order, as does one without a value; each pair of different values is asked about once."""
    result = run(flow_of(tmp_path), tmp_path)
    assert [row["drug"] for row in result] == DRUGS
    assert canonical(result) == ["Aspirin", "Aspirin", "Ibuprofen", None, "Aspirin", "Aspirin", "Ibuprofen"]
    assert len(judge.asked) == len({frozenset(pair) for pair in judge.asked}) == 10


def test_values_in_json_are_texts_without_quotes(tmp_path: Path, judge: Judge) -> None:
    flow = flow_of(tmp_path, source="read")
    read = flow.table("read", source="mentions")
    read.output(drug="{{ row.drug or none }}")
    result = run(flow, tmp_path)
    assert canonical(result) == ["Aspirin", "Aspirin", "Ibuprofen", None, "Aspirin", "Aspirin", "Ibuprofen"]


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        ("most_frequent", {"Aspirin", "Ibuprofen"}),
        ("longest", {"aspirine", "Ibuprofen"}),
        ("first", {"ibu", "aspirin"}),
    ],
)
def test_the_canonical_value_follows_a_rule(tmp_path: Path, judge: Judge, rule: str, values: set[str]) -> None:
    drugs = ["aspirin", "ibu", "aspirine", "Aspirin", "Aspirin", "Ibuprofen", "Ibuprofen"]
    assert set(canonical(run(flow_of(tmp_path, drugs, canonical=rule), tmp_path))) == values


@pytest.mark.parametrize(
    ("block", "pairs"),
    [
        ({"equal": "lower(drug[:3])"}, 4),
        ({"equal": ["lower(drug)"]}, 1),
        ({"equal": ["lower(drug)", "len(drug)"]}, 1),
        ({"jaro_winkler": 0.9}, 2),
        ({"on": "l.drug[:1] = r.drug[:1] and abs(len(l.drug) - len(r.drug)) < 2"}, 1),
        ({"tokens": 2}, 0),
        ({"tokens": 1, "equal": "lower(drug)"}, 1),
    ],
)
def test_only_pairs_that_a_block_finds_are_asked_about(
    tmp_path: Path, judge: Judge, block: dict[str, Any], pairs: int
) -> None:
    run(flow_of(tmp_path, block=block), tmp_path)
    assert len(judge.asked) == pairs


def test_words_that_values_share_make_pairs(tmp_path: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["Ann of York", "ann  york", "york", "Bob"]
    monkeypatch.setattr(f"{__name__}.MEANINGS", dict.fromkeys(names, 1))
    run(flow_of(tmp_path, names, block={"tokens": 2}), tmp_path)
    assert judge.asked == [("Ann of York", "ann  york")]


def test_a_pair_without_a_verdict_is_no_verdict(tmp_path: Path, judge: Judge) -> None:
    judge.unreadable = {("Aspirin", "aspirine")}
    with pytest.raises(
        RunStopped, match="'drugs__clusters' needs all rows of 'drugs__pairs', and 1 of them failed"
    ) as told:
        run(flow_of(tmp_path), tmp_path)
    assert told.value.hint is not None
    assert told.value.hint.endswith("or write `failed_rows: leave_out` in 'drugs'"), "the table that the user wrote"
    judge.unreadable.clear()
    assert "aspirine" not in canonical(run(flow_of(tmp_path), tmp_path, retry_failed=True))


def test_pairs_without_a_verdict_may_be_left_out(tmp_path: Path, judge: Judge) -> None:
    judge.unreadable = {("Ibuprofen", "ibu")}
    result = run(flow_of(tmp_path, failed_rows="leave_out"), tmp_path)
    assert canonical(result)[2] == "Ibuprofen"
    assert canonical(result)[-1] == "ibu"


def test_too_many_pairs_end_the_run_before_the_first_is_asked_about(tmp_path: Path, judge: Judge) -> None:
    with pytest.raises(RunError, match="'drugs__pairs' gives more than 9 rows") as raised:
        run(flow_of(tmp_path, max_pairs=9), tmp_path)
    assert "raise max_pairs" in str(raised.value)
    assert judge.asked == []


def test_a_cluster_that_is_too_large_ends_the_run(tmp_path: Path, judge: Judge) -> None:
    with pytest.raises(RunError, match="a component of the table 'drugs__clusters' has 3 nodes, more than 2: 0, 1, 3"):
        run(flow_of(tmp_path, max_cluster=2), tmp_path)


def test_steps_of_the_block_see_the_canonical_value(tmp_path: Path, judge: Judge) -> None:
    flow = sd.Flow("drugs", base_dir=tmp_path)
    (tmp_path / "mentions.jsonl").write_text('{"drug": "Aspirin"}\n{"drug": "aspirin"}\n')
    flow.engine("local", kind="null")
    flow.input("mentions", "mentions.jsonl")
    drugs = flow.resolve(
        "drugs", source="mentions", column="drug", engine="local", prompt="{{ row.left }}|{{ row.right }}", as_="name"
    )
    drugs.output(both="{{ row.drug }} = {{ row.name }}")
    assert [row["both"] for row in run(flow, tmp_path)] == ["Aspirin = Aspirin", "aspirin = Aspirin"]


YAML = """
name: drugs
engines: {local: {kind: "null"}}
inputs: {mentions: {path: mentions.jsonl}}
tables:
  drugs:
    resolve:
      source: mentions
      column: drug
      engine: local
      prompt: "{{ row.left }}|{{ row.right }}"
      block: {equal: "lower(drug[:3])"}
"""


def plan_of(folder: Path, text: str) -> LogicalPlan:
    (folder / "flow.yaml").write_text(text)
    return load_flow(folder / "flow.yaml")


def test_a_file_and_python_give_the_same_tables(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, YAML)
    assert plan == flow_of(tmp_path, block={"equal": "lower(drug[:3])"}).plan()
    assert [table.name for table in plan.tables] == [
        "drugs__values", "drugs__pairs", "drugs__clusters", "drugs__canonical", "drugs",
    ]  # fmt: skip
    assert {table.made_by for table in plan.tables} == {"resolve"}
    assert plan.results == ("drugs",)
    assert isinstance(plan.table("drugs__clusters").source, ComponentRows)
    assert isinstance(plan.table("drugs__pairs").source, QueryRows)


@pytest.mark.parametrize(
    ("old", "new", "what", "at"),
    [
        ("engine: local", "engine: locl", "locl", "locl"),
        ("source: mentions", "source: mentons", "there is no table or input 'mentons'", "mentons"),
        ("row.right", "row.rigth", "has no field 'rigth'", "row.rigth"),
        ('equal: "lower(drug[:3])"', 'equal: "random()"', "random", "{equal"),
        ('equal: "lower(drug[:3])"', "", "a block has at least one of", "{}"),
        ('equal: "lower(drug[:3])"', "jaro_winkler: 2", "jaro_winkler", "2"),
        ("      column: drug\n", "", "'column' is missing in 'resolve'", "resolve"),
        ("    resolve:", "    query: select 1 as a\n    resolve:", "a table has either 'resolve' or 'query'", "query"),
        ("  drugs:\n", "  a__b:\n    query: select 1 as a\n  drugs:\n", "two underscores are for made tables", "a__b"),
    ],
)
def test_a_mistake_is_told_where_it_was_written(tmp_path: Path, old: str, new: str, what: str, at: str) -> None:
    text = YAML.replace(old, new, 1)
    assert text != YAML
    with pytest.raises(FlowError, match=what) as raised:
        plan_of(tmp_path, text)
    assert isinstance(raised.value.where, Location)
    line = text.splitlines()[raised.value.where.line - 1]
    assert line[raised.value.where.column - 1 :].startswith(at)


def test_a_column_that_is_not_there_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match='does not have a column named "drgs"'):
        run(flow_of(tmp_path, column="drgs"), tmp_path)
