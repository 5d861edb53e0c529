"""`join` and `rank`: what a run over the tables that they stand for gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.errors import FlowError, RunError, RunStopped

Asked = list[str]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """The prompts; the model says "yes" where both sides begin alike, and gives each text its length as score."""
    asked: Asked = []

    def answer(model: str, request: Any, output_tokens: int | None) -> tuple[str, str]:
        prompt = request.messages[-1].content
        asked.append(prompt)
        left, mark, right = prompt.partition("|")
        if "?" in prompt:
            return "{}", "stop"
        return json.dumps({"matches": left[0] == right[0]} if mark else {"score": len(prompt)}), "stop"

    monkeypatch.setattr("sundog.engines.modelled.null.modelled_answer", answer)
    return asked


def flow_of(folder: Path, reviews: list[str]) -> sd.Flow:
    (folder / "reviews.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in reviews))
    (folder / "products.csv").write_text("name,price\nlamp,3\nchair,50\nladder,70\n")
    flow = sd.Flow("shop", base_dir=folder)
    flow.engine("local", kind="null")
    flow.input("reviews", "reviews.jsonl")
    flow.input("products", "products.csv")
    return flow


def joined(flow: sd.Flow, **more: Any) -> Any:
    prompt = "{{ row.left.text }}|{{ row.right.name }}"
    return flow.join("found", left="reviews", right="products", engine="local", prompt=prompt, **more)


def run(flow: sd.Flow, folder: Path, **options: Any) -> sd.Result:
    return flow.run(state=folder / "state", progress=False, **options)


def pairs(result: sd.Result) -> list[tuple[str, str | None]]:
    return [(row["left"]["text"], row["right"] and row["right"]["name"]) for row in result]


def test_pairs_that_match_are_rows(tmp_path: Path, asked: Asked) -> None:
    flow = flow_of(tmp_path, ["light", "nothing", "comfy"])
    joined(flow)
    assert pairs(run(flow, tmp_path)) == [("light", "lamp"), ("light", "ladder"), ("comfy", "chair")]
    assert len(asked) == 9


def test_only_pairs_of_the_block_are_asked_about(tmp_path: Path, asked: Asked) -> None:
    flow = flow_of(tmp_path, ["light", "nothing", "comfy"])
    found = joined(flow, block="r.price < 60 and l.text <> 'nothing'")
    found.output(text="{{ row.left.text }}", price="{{ row.right.price }}")
    assert list(run(flow, tmp_path)) == [{"text": "light", "price": 3}, {"text": "comfy", "price": 50}]
    assert len(asked) == 4


def test_rows_without_a_match_may_stay(tmp_path: Path, asked: Asked) -> None:
    flow = flow_of(tmp_path, ["light", "nothing", "comfy"])
    joined(flow, keep="left")
    assert pairs(run(flow, tmp_path)) == [
        ("light", "lamp"), ("light", "ladder"), ("nothing", None), ("comfy", "chair"),
    ]  # fmt: skip


def test_a_pair_without_a_verdict_is_a_failed_row(tmp_path: Path, asked: Asked) -> None:
    flow = flow_of(tmp_path, ["light", "l?"])
    joined(flow, block="r.price = 3")
    result = run(flow, tmp_path)
    assert pairs(result) == [("light", "lamp")]
    assert [(row["table"], row["row"], row["node"]) for row in result.errors] == [("found__pairs", "1", "found__judge")]
    flow = flow_of(tmp_path, ["light", "l?"])
    joined(flow, block="r.price = 3", keep="left")
    with pytest.raises(RunStopped, match="the table 'found' needs all rows of 'found__pairs', and 1 of them failed"):
        run(flow, tmp_path)


def test_too_many_pairs_end_the_run_before_the_first_is_asked_about(tmp_path: Path, asked: Asked) -> None:
    flow = flow_of(tmp_path, ["light", "nothing", "comfy"])
    joined(flow, max_pairs=8)
    with pytest.raises(RunError, match="'found__pairs' gives more than 8 rows"):
        run(flow, tmp_path)
    assert asked == []


def ranked(flow: sd.Flow, **more: Any) -> Any:
    return flow.rank("best", source="reviews", engine="local", prompt="{{ row.text }}", **more)


def test_the_rows_of_the_highest_scores_come_out(tmp_path: Path, asked: Asked) -> None:
    """The earlier row of equal scores comes first; equal rows are asked about once, and both have a place."""
    flow = flow_of(tmp_path, ["aa", "bbbb", "cc", "bbbb", "d", "eee"])
    ranked(flow, k=5)
    assert [(row["text"], row["score"]) for row in run(flow, tmp_path)] == [
        ("bbbb", 4), ("bbbb", 4), ("eee", 3), ("aa", 2), ("cc", 2),
    ]  # fmt: skip
    assert len(asked) == 5


def test_a_row_without_a_score_has_no_place(tmp_path: Path, asked: Asked) -> None:
    flow = flow_of(tmp_path, ["aa", "b?"])
    ranked(flow, k=1)
    with pytest.raises(RunStopped, match="'best' needs all rows of 'best__scores', and 1 of them failed"):
        run(flow, tmp_path)
    flow = flow_of(tmp_path, ["aa", "b?"])
    ranked(flow, k=3, failed_rows="leave_out", as_="length")
    assert list(run(flow, tmp_path)) == [{"text": "aa", "length": 2}]


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda flow: joined(flow, block="l.txt = r.name"), "txt"),
        (lambda flow: joined(flow, block="random() < 0.5"), "random"),
        (lambda flow: joined(flow, keep="right"), "keep"),
        (lambda flow: ranked(flow, k=0), "k"),
        (lambda flow: flow.rank("best", source="revews", engine="local", prompt="x", k=1), "did you mean 'reviews'"),
        (lambda flow: flow.rank("best", source="reviews", engine="lcl", prompt="x", k=1), "did you mean 'local'"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    tmp_path: Path, asked: Asked, make: Callable[[sd.Flow], Any], what: str
) -> None:
    flow = flow_of(tmp_path, ["aa"])
    make(flow)
    with pytest.raises(FlowError) as raised:
        run(flow, tmp_path)
    assert what in str(raised.value)
    assert asked == []


def longer(text: str) -> str:
    return text * 2


def test_sources_may_be_tables_with_steps(tmp_path: Path, asked: Asked) -> None:
    """The rows of such a source end in any order, and in batches; each keeps its own pairs and score."""
    texts = [f"{letter}{number}" for number in range(700) for letter in "lcx"]
    flow = flow_of(tmp_path, texts)
    doubled = flow.table("doubled", source="reviews", types={"text": "VARCHAR"})
    doubled.output(text=doubled.python("longer", longer, args={"text": doubled.row.text}))
    prompt = "{{ row.left.text }}|{{ row.right.name }}"
    block = "r.price = 3 and l.text[1] <> 'c'"
    flow.join("found", left=doubled, right="products", engine="local", prompt=prompt, block=block, keep="left")
    flow.rank("best", source=doubled, engine="local", prompt="{{ row.text }}", k=3)
    flow.results("found", "best")
    result = run(flow, tmp_path)
    assert pairs(result.table("found")) == [(text * 2, "lamp" if text[0] == "l" else None) for text in texts]
    assert [(row["text"], row["score"]) for row in result.table("best")] == [
        (text * 2, 8) for text in ("l100", "c100", "x100")
    ]
