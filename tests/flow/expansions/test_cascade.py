"""`cascade`: a smaller model judges where a sample shows that it judges as the larger one does, and a run says so."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sundog as sd
from sundog.ir.agreement import LEVEL, least_agreed, shown_share

LEFT = [f"{letter}{number}" for number in range(4) for letter in "abcdefg"]
RIGHT = [f"{letter}x" for letter in "abcdefghij"]
NUM_PAIRS = len(LEFT) * len(RIGHT)


class Models:
    """`big` says yes where both sides begin alike; `tiny` as well, but for prompts of which `is_wrong` holds."""

    def __init__(self) -> None:
        self.asked = Counter[str]()
        self.is_wrong: Callable[[str], bool] = lambda prompt: False
        self.is_broken: Callable[[str], bool] = lambda prompt: False

    def answer(self, model: str, request: Any, output_tokens: int | None) -> tuple[str, str]:
        prompt = request.messages[-1].content
        left, right = prompt.split("|")
        self.asked[model] += 1
        if model == "tiny" and self.is_broken(prompt):
            return "{}", "stop"
        says_yes = left[0] == right[0]
        if model == "tiny" and self.is_wrong(prompt):
            says_yes = not says_yes
        return json.dumps(dict.fromkeys(json.loads(request.json_schema)["properties"], says_yes)), "stop"


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    models = Models()
    monkeypatch.setattr("sundog.engines.modelled.null.modelled_answer", models.answer)
    return models


def flow_of(folder: Path) -> sd.Flow:
    flow = sd.Flow("f", base_dir=folder)
    flow.engine("large", kind="null", model="big")
    flow.engine("small", kind="null", model="tiny")
    for name, values in (("l", LEFT), ("r", RIGHT)):
        (folder / f"{name}.csv").write_text("\n".join(["x", *values, ""]))
        flow.input(name, f"{name}.csv")
    return flow


def joined(folder: Path, **more: Any) -> sd.Flow:
    flow = flow_of(folder)
    prompt = "{{ row.left.x }}|{{ row.right.x }}"
    flow.join("found", left="l", right="r", engine="large", prompt=prompt, cascade={"engine": "small"}, **more)
    return flow


def run(flow: sd.Flow, folder: Path, **options: Any) -> sd.Result:
    return flow.run(state=folder / "state", progress=False, **options)


def pairs(result: sd.Result) -> list[tuple[str, str]]:
    return [(row["left"]["x"], row["right"]["x"]) for row in result]


RIGHT_PAIRS = [(left, right) for left in LEFT for right in RIGHT if left[0] == right[0]]


def said(result: sd.Result) -> str:
    (found,) = (warning for warning in result.report.warnings if warning.startswith("cascade of"))
    return found


def test_the_smaller_model_judges_the_rest_where_it_agrees(tmp_path: Path, models: Models) -> None:
    result = run(joined(tmp_path), tmp_path)
    assert pairs(result) == RIGHT_PAIRS
    assert models.asked == {"big": 59, "tiny": NUM_PAIRS}
    text = said(result)
    assert text.startswith("cascade of 'found': 'small' judged 59 of 59 sampled pairs as 'large' did, and ")
    assert text.endswith("at least 95.0% of all pairs (95% confidence), so 'small' judged the other 221")


def test_the_larger_model_judges_all_where_it_does_not(tmp_path: Path, models: Models) -> None:
    models.is_wrong = lambda prompt: prompt.startswith(("a", "b"))
    result = run(joined(tmp_path), tmp_path)
    assert pairs(result) == RIGHT_PAIRS
    assert models.asked == {"big": NUM_PAIRS, "tiny": 59}
    assert said(result).endswith("that does not show an agreement of 95.0%, so 'large' judged all pairs")


def test_sampled_pairs_keep_the_verdict_of_the_larger_model(tmp_path: Path, models: Models) -> None:
    """With 200 pairs four may differ."""
    wrong = RIGHT_PAIRS[5]
    models.is_wrong = lambda prompt: prompt == "|".join(wrong)
    flow = flow_of(tmp_path)
    cascade = {"engine": "small", "sample": 200, "seed": 3}
    prompt = "{{ row.left.x }}|{{ row.right.x }}"
    flow.join("found", left="l", right="r", engine="large", prompt=prompt, cascade=cascade)
    flow.results("found", "found__sample")
    result = run(flow, tmp_path)
    sampled = {row["cascade__row"] for row in result.table("found__sample")}
    is_sampled = LEFT.index(wrong[0]) * len(RIGHT) + RIGHT.index(wrong[1]) in sampled
    found = [(row["left"]["x"], row["right"]["x"]) for row in result.table("found")]
    assert (wrong in found) == is_sampled
    assert set(RIGHT_PAIRS) - set(found) <= {wrong}
    assert models.asked["big"] == 200


def test_a_sample_that_is_not_whole_shows_nothing(tmp_path: Path, models: Models) -> None:
    few = run(joined(tmp_path, block="l.x < 'b'"), tmp_path)
    assert pairs(few) == [pair for pair in RIGHT_PAIRS if pair[0] < "b"]
    assert models.asked == {"big": 40, "tiny": 40}
    models.asked.clear()
    models.is_broken = lambda prompt: prompt.startswith("c")
    result = run(joined(tmp_path), tmp_path)
    assert pairs(result) == RIGHT_PAIRS
    assert models.asked["big"] == NUM_PAIRS - 40
    assert {row["table"] for row in result.errors} == {"found__sample"}


def test_explain_warns_before_anything_runs(tmp_path: Path, models: Models) -> None:
    shown = str(joined(tmp_path).explain(state=tmp_path))
    assert "table 'found': 'small' judges in the place of 'large' where 59 sampled pairs show" in shown
    assert not models.asked


def test_values_are_resolved_by_a_cascade(tmp_path: Path, models: Models) -> None:
    def resolved(**more: Any) -> list[tuple[str, str]]:
        flow = flow_of(tmp_path)
        prompt = "{{ row.left }}|{{ row.right }}"
        flow.resolve("same", source="l", column="x", engine="large", prompt=prompt, **more)
        return [(row["x"], row["canonical"]) for row in run(flow, tmp_path)]

    by_large = resolved()
    models.asked.clear()
    assert resolved(cascade={"engine": "small", "sample": 100, "agree": 0.9}) == by_large
    # What the larger one has judged before is not asked for again.
    assert models.asked == {"tiny": len(LEFT) * (len(LEFT) - 1) // 2}


@given(num=st.integers(1, 120), percent=st.integers(51, 99))
def test_the_bound_is_exact(num: int, percent: int) -> None:
    share = Fraction(percent, 100)
    chances = [comb(num, k) * share**k * (1 - share) ** (num - k) for k in range(num + 1)]
    known = next((k for k in range(num + 1) if sum(chances[k:]) <= Fraction(LEVEL)), None)
    assert least_agreed(num, percent / 100) == known
    if known is not None:
        assert shown_share(num, known) >= percent / 100 - 1e-9 > shown_share(num, known - 1) - 1e-9
