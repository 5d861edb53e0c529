"""The blocks of candidate pairs, as a run and `explain` tell of them before the first pair is judged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.display import QuietDisplay
from sundog.errors import RunStopped
from sundog.queries.conditions import keys_of_left

DRUGS = ["aspirin a", "Aspirine", "aspi a", None, "ibu a", "ibuprofen", "zz", "ibu a"]
PROMPTS = {"resolve": "{{ row.left }}|{{ row.right }}", "join": "{{ row.left.drug }}|{{ row.right.drug }}"}


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The notes and the prompts of a run, in the order in which they came; the model says no to each."""
    heard: list[str] = []

    def answer(model: str, request: Any, output_tokens: int | None) -> tuple[str, str]:
        heard.append("asked")
        return json.dumps({"same" if '"same"' in request.json_schema else "matches": False}), "stop"

    monkeypatch.setattr("sundog.engines.modelled.null.modelled_answer", answer)
    monkeypatch.setattr(QuietDisplay, "note", lambda display, text: heard.append(text))
    return heard


def flow_of(folder: Path, drugs: Sequence[str | None] = DRUGS) -> sd.Flow:
    lines = [json.dumps({"id": number, "drug": drug}) + "\n" for number, drug in enumerate(drugs)]
    (folder / "mentions.jsonl").write_text("".join(lines))
    flow = sd.Flow("drugs", base_dir=folder)
    flow.engine("local", kind="null")
    flow.input("mentions", "mentions.jsonl")
    flow.constant("shortest", 2)
    return flow


def resolved(flow: sd.Flow, block: Any, name: str = "drugs", **more: Any) -> None:
    words = {"source": "mentions", "column": "drug", "engine": "local", "prompt": PROMPTS["resolve"]}
    flow.resolve(name, block=block, **{**words, **more})


def joined(flow: sd.Flow, block: Any, name: str = "drugs", **more: Any) -> None:
    words = {"left": "mentions", "right": "mentions", "engine": "local", "prompt": PROMPTS["join"]}
    flow.join(name, block=block, **{**words, **more})


def run(flow: sd.Flow, folder: Path, **options: Any) -> sd.Result:
    return flow.run(state=folder / "state", progress=False, **options)


@pytest.mark.parametrize(
    ("block", "told"),
    [
        (None, "15 pairs to judge"),
        ({"equal": "drug || 'x'"}, "0 pairs to judge"),
        (
            {"equal": ["lower(drug[:1])", "drug[-1]"]},
            '6 pairs to judge; largest blocks: drug[-1] = "a" 3 pairs, lower(drug[:1]) = "a" 3 pairs',
        ),
        (
            {"equal": "len(drug) > $shortest"},
            "10 pairs to judge; largest blocks: len(drug) > $shortest = true 10 pairs",
        ),
        ({"tokens": 1}, '3 pairs to judge; largest blocks: the word "a" 3 pairs'),
        ({"tokens": 2}, "0 pairs to judge"),
        (
            {"on": "l.drug = 'zz' or r.drug = 'zz'"},
            '5 pairs to judge; largest blocks: "zz" 5 pairs',
        ),
        ({"jaro_winkler": 0.86}, "1 pair to judge"),
    ],
)
def test_the_largest_blocks_of_values_are_told_before_the_first_call(
    tmp_path: Path, heard: list[str], block: Any, told: str
) -> None:
    """A value without a partner and a row without a value are in no block; each of several rules has its own."""
    flow = flow_of(tmp_path)
    resolved(flow, block)
    result = run(flow, tmp_path)
    assert heard[0] == f"drugs: {told}"
    assert heard[1:] == ["asked"] * int(told.partition(" ")[0])
    assert result.report.notes == (f"drugs: {told}",)
    assert f"\nnote     drugs: {told}\n" in f"{result.report}\n"
    assert result.report.warnings == ()


@pytest.mark.parametrize(
    ("block", "told"),
    [
        (None, "64 pairs to judge"),
        (
            "lower(l.drug[1]) = lower(r.drug[1]) and l.id <> r.id",
            '12 pairs to judge; largest blocks: lower(l.drug[1]) = "a" 6 pairs, lower(l.drug[1]) = "i" 6 pairs',
        ),
        (
            "r.drug = l.drug and r.id >= l.id and l.id // 4 = r.id // 4",
            '8 pairs to judge; largest blocks: l.drug = "ibu a", l.id // 4 = 1 3 pairs',
        ),
        (
            "r.id = 0 and l.id > 5",
            '2 pairs to judge; largest blocks: right {"id":0,"drug":"aspirin a"} 2 pairs',
        ),
    ],
)
def test_the_largest_blocks_of_rows_are_told_before_the_first_call(
    tmp_path: Path, heard: list[str], block: Any, told: str
) -> None:
    flow = flow_of(tmp_path)
    joined(flow, block)
    result = run(flow, tmp_path)
    assert heard[0] == f"drugs: {told}"
    assert result.report.notes == (f"drugs: {told}",)


def test_three_blocks_at_most_are_told_and_long_ones_are_cut(tmp_path: Path, heard: list[str]) -> None:
    flow = flow_of(tmp_path, [letter * length for letter in "abcde" for length in (70, 71, 72)])
    resolved(flow, {"equal": "drug[:69]"})
    run(flow, tmp_path)
    blocks = ", ".join(f'drug[:69] = "{letter * 47}... 3 pairs' for letter in "abc")
    assert heard[0] == f"drugs: 15 pairs to judge; largest blocks: {blocks}"


@pytest.mark.parametrize("trade", [{"rows_per_prompt": 2}, {"cascade": {"engine": "local"}}])
@pytest.mark.parametrize("make", [resolved, joined])
def test_a_trade_tells_of_the_same_pairs(tmp_path: Path, heard: list[str], make: Any, trade: Mapping[str, Any]) -> None:
    flow = flow_of(tmp_path)
    make(flow, {"tokens": 1} if make is resolved else "l.id = r.id + 1", **trade, failed_rows="leave_out")
    run(flow, tmp_path)
    (told,) = (number for number, text in enumerate(heard) if text.startswith("drugs: "))
    assert heard[told].startswith("drugs: 3 pairs" if make is resolved else "drugs: 7 pairs")
    assert "asked" in heard[told:]
    assert "asked" not in heard[:told]


def test_what_the_prompt_does_not_read_is_told_too(tmp_path: Path, heard: list[str]) -> None:
    """The columns that nobody else reads stay in the query of the pairs."""
    flow = flow_of(tmp_path)
    joined(flow, "r.id = 0", prompt="Always?")
    flow.table("counted", query="select count(*) as n from drugs")
    flow.results("counted")
    run(flow, tmp_path)
    assert heard[0] == 'drugs: 8 pairs to judge; largest blocks: right {"id":0,"drug":"aspirin a"} 8 pairs'


def test_blocks_over_tables_that_are_made_once_are_told(tmp_path: Path, heard: list[str]) -> None:
    """The values of the second resolve are those of the first."""
    flow = flow_of(tmp_path)
    for name, prompt in (("one", "{{ row.left }}"), ("two", "{{ row.right }}")):
        resolved(flow, {"tokens": 1}, name, prompt=prompt)
    told = '3 pairs to judge; largest blocks: the word "a" 3 pairs'
    assert set(run(flow, tmp_path).report.notes) == {f"one: {told}", f"two: {told}"}


def test_a_run_that_goes_on_and_one_that_is_finished_tell_it_again(
    tmp_path: Path, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = flow_of(tmp_path)
    resolved(flow, {"tokens": 1})
    told = 'drugs: 3 pairs to judge; largest blocks: the word "a" 3 pairs'
    with monkeypatch.context() as patched:
        patched.setattr("sundog.engines.modelled.null.modelled_answer", lambda *words: ("?", "stop"))
        with pytest.raises(RunStopped):
            run(flow, tmp_path)
    assert run(flow, tmp_path, retry_failed=True).report.notes == (told,)
    assert heard == [told, told, *["asked"] * 3]
    assert run(flow, tmp_path).report.notes == (told,)
    assert heard[5:] == []


def test_explain_tells_it_where_the_rows_are_known(tmp_path: Path, heard: list[str]) -> None:
    flow = flow_of(tmp_path)
    resolved(flow, {"tokens": 1})
    read = flow.table("read", source="mentions")
    asked = read.llm("ask", engine="local", prompt="{{ row.drug }}")
    read.output(drug=f"{asked}")
    joined(flow, "l.drug = r.drug", "found", left="read")
    flow.results("drugs", "found")
    shown = str(flow.explain(state=tmp_path / "state"))
    assert 'note: drugs: 3 pairs to judge; largest blocks: the word "a" 3 pairs\n' in f"{shown}\n"
    assert "found: " not in shown.partition("\nestimate")[2].partition("note: ")[2]
    assert heard == []


@pytest.mark.parametrize(
    ("condition", "keys"),
    [
        ("l.a = r.a", ("l.a",)),
        ("r.b=l.a.b and l.c == r.c", ("l.a.b", "l.c")),
        ("(l.a) = lower(r.a || '=') and l.x between 1 and r.x and l.y = r.y", ("(l.a)", "l.y")),
        ("l.a = r.a or l.b = r.b", ()),
        ("not l.a = r.a", ()),
        ("l.a = r.a = true", ()),
        ("l.a = l.b and r.a = 3", ()),
        ("a = r.a", ()),
        ("l.a = (select max(r.a) from other)", ()),
        ("(l.a = r.a", ()),
    ],
)
def test_keys_are_the_left_sides_of_equalities(condition: str, keys: Sequence[str]) -> None:
    assert keys_of_left(condition) == keys
