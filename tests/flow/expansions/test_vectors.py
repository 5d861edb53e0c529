"""`block: {vector: ...}`: the pairs that vectors let through, in `resolve` and in `join`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.errors import FlowError, SundogError

#: By angle: a and b are near, d is between c and e, and z has no direction.
NOTES: Mapping[str, Sequence[float] | None] = {
    "a": [1.0, 0.0],
    "b": [1.0, 0.1],
    "c": [0.0, 1.0],
    "none": None,
    "d": [-0.1, 1.0],
    "e": [-0.2, 1.0],
    "z": [0.0, 0.0],
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pairs that the model was asked about, each of which it says no to."""
    asked: list[str] = []

    def answer(model: str, request: Any, output_tokens: int | None) -> tuple[str, str]:
        asked.append(request.messages[-1].content)
        return json.dumps({"same" if '"same"' in request.json_schema else "matches": False}), "stop"

    monkeypatch.setattr("sundog.engines.modelled.null.modelled_answer", answer)
    return asked


def flow_of(folder: Path, notes: Mapping[str, Sequence[float] | None] = NOTES, type: str = "FLOAT[2]") -> sd.Flow:
    lines = [json.dumps({"text": text, "numbers": numbers}) + "\n" for text, numbers in notes.items()]
    (folder / "notes.jsonl").write_text("".join(lines))
    flow = sd.Flow("near", base_dir=folder)
    flow.engine("local", kind="null")
    flow.input("notes", "notes.jsonl")
    flow.table("placed", query=f"select text, numbers::{type} as vector from notes")
    return flow


def resolved(folder: Path, block: Any, **of_flow: Any) -> sd.Result:
    flow = flow_of(folder, **of_flow)
    prompt = "{{ row.left }}{{ row.right }}"
    flow.results(flow.resolve("found", source="placed", column="text", engine="local", prompt=prompt, block=block))
    return flow.run(state=folder / "state", progress=False)


def joined(folder: Path, block: Any, **of_flow: Any) -> sd.Result:
    flow = flow_of(folder, **of_flow)
    prompt = "{{ row.left.text }}{{ row.right.text }}"
    flow.results(flow.join("found", left="placed", right="placed", engine="local", prompt=prompt, block=block))
    return flow.run(state=folder / "state", progress=False)


@pytest.mark.parametrize(
    ("rule", "pairs"),
    [
        ({"at_least": 0.99}, ["ab", "cd", "de"]),
        ({"at_least": 0.9}, ["ab", "cd", "ce", "de"]),
        ({"top": 1}, ["ab", "cd", "de"]),
        ({"top": 2}, ["ab", "ac", "bc", "cd", "ce", "de"]),
        ({"top": 2, "at_least": 0.9}, ["ab", "cd", "ce", "de"]),
        ({"at_least": 0.9, "on": "l.text <> 'c' and r.text <> 'c'"}, ["ab", "de"]),
    ],
)
def test_near_vectors_make_pairs_once(tmp_path: Path, asked: list[str], rule: dict[str, Any], pairs: list[str]) -> None:
    """A text without a vector, or with one of no direction, is in no pair, and stays a row."""
    result = resolved(tmp_path, {"vector": {"column": "vector", **rule}})
    assert sorted(asked) == pairs
    assert [row["canonical"] for row in result] == list(NOTES)


ONE = {"a": [1.0, 0.0], "b": None, "c": [1.0, 0.1]}
"""The text without a vector is one."""


@pytest.mark.parametrize(
    ("make", "notes", "told"),
    [
        (resolved, NOTES, ("2 of 7 values of 'found' have no vector, or one of the length 0, and are near nothing",)),
        (joined, NOTES, ("2 of 7 rows of 'placed' have no vector, or one of the length 0, and are near nothing",)),
        (resolved, ONE, ("1 of 3 values of 'found' has no vector, or one of the length 0, and is near nothing",)),
        (resolved, {"a": [1.0, 0.0], "b": [1.0, 0.1]}, ()),
    ],
)
def test_a_run_tells_how_many_have_no_vector(
    tmp_path: Path, asked: list[str], make: Any, notes: Mapping[str, Sequence[float] | None], told: tuple[str, ...]
) -> None:
    report = make(tmp_path, {"vector": {"column": "vector", "top": 1}}, notes=notes).report
    assert report.warnings == told
    (note,) = report.notes
    assert note.startswith("found: ")


def test_each_source_of_a_join_tells_of_its_own(tmp_path: Path, asked: list[str]) -> None:
    flow = flow_of(tmp_path)
    flow.table("other", query="select text, vector from placed where text in ('a', 'none')")
    block = {"vector": {"column": "vector", "at_least": 0.99, "on": "l.text in (select text from notes)"}}
    flow.join("found", left="other", right="placed", engine="local", prompt="x", block=block)
    lacks = "have no vector, or one of the length 0, and are near nothing"
    assert flow.run(state=tmp_path / "state", progress=False).report.warnings == (
        "1 of 2 rows of 'other' has no vector, or one of the length 0, and is near nothing",
        f"2 of 7 rows of 'placed' {lacks}",
    )


def test_of_equally_near_ones_the_earlier_row_is_taken(tmp_path: Path, asked: list[str]) -> None:
    notes = {"a": [1.0, 0.0], "b": [2.0, 0.0], "c": [3.0, 0.0], "d": [4.0, 0.0]}
    resolved(tmp_path, {"vector": {"column": "vector", "top": 1}}, notes=notes)
    assert sorted(asked) == ["ab", "ac", "ad"]


def test_a_block_takes_other_rules_beside_vectors(tmp_path: Path, asked: list[str]) -> None:
    resolved(tmp_path, {"vector": {"column": "vector", "at_least": 0.99}, "equal": "len(text)", "on": "l.text = 'z'"})
    assert sorted(asked) == [a + b for a in "abcdez" for b in "abcdez" if a < b]


def test_a_join_takes_the_nearest_right_rows_of_each_left_row(tmp_path: Path, asked: list[str]) -> None:
    joined(tmp_path, {"vector": {"column": "vector", "top": 1, "on": "l.text <> r.text"}})
    assert sorted(asked) == ["ab", "ba", "cd", "de", "ed"]


@pytest.mark.parametrize("make", [resolved, joined])
@pytest.mark.parametrize("type", ["DOUBLE[]", "VARCHAR"])
def test_a_column_that_holds_no_vectors_is_told_before_anything_runs(
    tmp_path: Path, asked: list[str], make: Any, type: str
) -> None:
    with pytest.raises(FlowError, match="array_cosine_similarity") as caught:
        make(tmp_path, {"vector": {"column": "vector", "top": 1}}, type=type)
    assert "types: {vector: FLOAT[384]}" in str(caught.value)
    assert not asked


def test_vectors_of_two_lengths_are_told_before_anything_runs(tmp_path: Path, asked: list[str]) -> None:
    flow = flow_of(tmp_path)
    flow.table("other", query="select text, [1, 2, 3]::FLOAT[3] as vector from notes")
    block = {"vector": {"column": "vector", "top": 1}}
    flow.join("found", left="placed", right="other", engine="local", prompt="x", block=block)
    with pytest.raises(FlowError, match="must be of the same size"):
        flow.run(state=tmp_path / "state", progress=False)


def test_a_vector_of_another_length_than_its_column_fails_its_row(tmp_path: Path) -> None:
    flow = flow_of(tmp_path, {"a": [1.0, 0.0], "b": [1.0, 0.0, 2.0]}, "DOUBLE[]")
    table = flow.table("typed", query="select text, vector from placed", types={"vector": "FLOAT[2]"})
    table.output(text="{{ row.text }}", vector="{{ row.vector }}")
    flow.results(table)
    (error,) = flow.run(state=tmp_path / "state", progress=False).errors
    assert error["row"] == "1.0"
    assert "FLOAT[2]" in error["cause"]


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"column": "vector"}, "has 'at_least', 'top' or both"),
        ("vector", "names a column of vectors"),
        ({"text": "{{ row.text }}", "engine": "local", "top": 5}, "an embed step makes it before"),
        ({"column": "vector", "top": 0}, "top"),
        ({"column": "vector", "at_least": 2}, "at_least"),
    ],
)
@pytest.mark.parametrize("make", [resolved, joined])
def test_a_wrong_rule_is_refused(tmp_path: Path, make: Any, rule: Any, says: str) -> None:
    with pytest.raises(SundogError, match=says):
        make(tmp_path, {"vector": rule})
