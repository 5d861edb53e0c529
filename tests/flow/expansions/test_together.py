"""`rows_per_prompt`: several pairs in a prompt; an answer that lacks one, or has it twice, fails that pair."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.errors import FlowError, RunStopped

LEFT = [f"{letter}{number}" for number in range(4) for letter in "abcde"]
RIGHT = [f"{letter}x" for letter in "abcdefgh"]
NUM_PAIRS = len(LEFT) * len(RIGHT)
Entry = tuple[int, bool]


class Model:
    """Says yes where both sides begin alike, by the number of the question; `change` spoils an answer of several."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.change: Callable[[list[str], list[Entry]], list[Entry]] = lambda texts, entries: entries

    def answer(self, model: str, request: Any, output_tokens: int | None) -> tuple[str, str]:
        prompt = request.messages[-1].content
        found = re.findall(r"(?:(\d+)\. )?(\w+\|\w+)", prompt)
        texts = [text for _, text in found]
        self.asked.append(texts)
        (field, *_), is_alone = re.findall(r"matches|same", request.json_schema), "answers" not in request.json_schema
        entries = [(int(number or 0), text[0] == text.partition("|")[2][0]) for number, text in found]
        if is_alone:
            return json.dumps({field: entries[0][1]}), "stop"
        entries = self.change(texts, entries)
        return json.dumps({"answers": [{"id": number, field: is_yes} for number, is_yes in entries]}), "stop"


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    model = Model()
    monkeypatch.setattr("sundog.engines.modelled.null.modelled_answer", model.answer)
    return model


def flow_of(folder: Path, left: list[str] = LEFT) -> sd.Flow:
    flow = sd.Flow("f", base_dir=folder)
    flow.engine("local", kind="null")
    for name, values in (("l", left), ("r", RIGHT)):
        (folder / f"{name}.csv").write_text("\n".join(["x", *values, ""]))
        flow.input(name, f"{name}.csv")
    return flow


def joined(folder: Path, left: list[str] = LEFT, **more: Any) -> sd.Flow:
    flow = flow_of(folder, left)
    words: dict[str, Any] = {"prompt": "{{ row.left.x }}|{{ row.right.x }}", "rows_per_prompt": 10}
    flow.join("found", left="l", right="r", engine="local", **(words | more))
    return flow


def run(flow: sd.Flow, folder: Path, **options: Any) -> sd.Result:
    return flow.run(state=folder / "state", progress=False, **options)


def pairs(result: sd.Result) -> list[tuple[str, str]]:
    return [(row["left"]["x"], row["right"]["x"]) for row in result]


RIGHT_PAIRS = [(left, right) for left in LEFT for right in RIGHT if left[0] == right[0]]


def test_pairs_share_prompts_and_the_run_tells_what_it_cost(tmp_path: Path, model: Model) -> None:
    result = run(joined(tmp_path), tmp_path)
    assert pairs(result) == RIGHT_PAIRS
    together = [texts for texts in model.asked if len(texts) > 1]
    assert len(together) == NUM_PAIRS / 10
    assert sum(len(texts) == 1 for texts in model.asked) == 59
    (told,) = (text for text in result.report.warnings if text.startswith("prompts of 10 pairs of 'found'"))
    assert "59 of 59 sampled pairs were judged there as alone" in told


def test_equal_questions_stand_in_a_prompt_once(tmp_path: Path, model: Model) -> None:
    result = run(joined(tmp_path, ["a1", "b1", "a1"], block="r.x = 'ax'"), tmp_path)
    assert pairs(result) == [("a1", "ax"), ("a1", "ax")]
    assert sorted(model.asked) == [["a1|ax"], ["a1|ax", "b1|ax"], ["b1|ax"]]


@pytest.mark.parametrize(
    ("change", "how_many"),
    [
        (lambda entries: entries[1:], "no"),
        (lambda entries: [entries[0], *entries], "2"),
        (lambda entries: [(77, True), *entries[1:]], "no"),
    ],
)
def test_a_missing_or_doubled_number_fails_that_pair_and_shifts_none(
    tmp_path: Path, model: Model, change: Callable[[list[Entry]], list[Entry]], how_many: str
) -> None:
    lost = RIGHT_PAIRS[0]
    model.change = lambda texts, entries: change(entries) if "|".join(lost) in texts else entries
    result = run(joined(tmp_path), tmp_path)
    assert pairs(result) == RIGHT_PAIRS[1:]
    (error,) = result.errors
    assert (error["table"], error["node"]) == ("found__judged", "found__is_answered")
    assert f"has {how_many} entries for this one" in error["cause"]


def test_a_prompt_whose_answer_cannot_be_read_fails_its_pairs(tmp_path: Path, model: Model) -> None:
    spoiled: list[Any] = [(1.5, "?")]
    model.change = lambda texts, entries: spoiled if "a0|ax" in texts else entries
    result = run(joined(tmp_path), tmp_path)
    assert pairs(result) == RIGHT_PAIRS[2:]
    assert {(row["table"], row["row"]) for row in result.errors if row["table"] != "found__judged"} == {
        ("found__prompts", "0")
    }
    assert sum(row["table"] == "found__judged" for row in result.errors) == 10
    model.change = lambda texts, entries: entries
    assert pairs(run(joined(tmp_path), tmp_path, retry_failed=True)) == RIGHT_PAIRS


def test_values_are_resolved_together(tmp_path: Path, model: Model) -> None:
    def resolved(**more: Any) -> list[tuple[str, str]]:
        flow = flow_of(tmp_path)
        flow.resolve("same", source="l", column="x", engine="local", prompt="{{ row.left }}|{{ row.right }}", **more)
        return [(row["x"], row["canonical"]) for row in run(flow, tmp_path)]

    alone = resolved()
    model.asked.clear()
    assert resolved(rows_per_prompt=20) == alone
    assert [len(texts) for texts in model.asked] == [20] * 9 + [10]
    model.change = lambda texts, entries: entries[1:]
    with pytest.raises(RunStopped, match="'same__clusters' needs all rows of 'same__judged'"):
        resolved(rows_per_prompt=19)


def test_mistakes_and_warnings_come_before_anything_runs(tmp_path: Path, model: Model) -> None:
    shown = str(joined(tmp_path).explain(state=tmp_path))
    assert "table 'found': 10 pairs are judged in one prompt: some verdicts may be others than alone" in shown
    for more, what in (
        ({"rows_per_prompt": 1}, "must be greater than or equal to 2"),
        ({"cascade": {"engine": "local"}}, "either 'cascade' or 'rows_per_prompt'"),
        ({"prompt": sd.prompt_file("a.md")}, "the prompt is a text, and no file"),
        ({"prompt": "{{ row.lft.x }}"}, "lft"),
    ):
        with pytest.raises(FlowError, match=what):
            run(joined(tmp_path, **more), tmp_path)
    assert model.asked == []
