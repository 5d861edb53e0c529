"""Rows read by values: the same rows under the same numbers, in another order."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sundog.ir.logical import InputSource
from sundog.runtime.io.inputs import RowSource

Put = Callable[[str, str | bytes], Path]
Open = Callable[..., RowSource]
DOCUMENT, TOPIC = ("row", "document"), ("row", "topic")
NUM_ROWS = 300


def rows() -> list[dict[str, Any]]:
    chance = random.Random(3)
    return [
        {"id": index, "document": chance.choice(["b\n'", "a", None, "ü"]), "topic": chance.randrange(5), "in": {"k": 1}}
        for index in range(NUM_ROWS)
    ]


@pytest.fixture(params=["rows.csv", "rows.jsonl", "rows.parquet"])
def name(request: pytest.FixtureRequest, put: Put, tmp_path: Path) -> str:
    path: str = request.param
    put("rows.jsonl", "".join(json.dumps(row) + "\n" for row in rows()))
    if path != "rows.jsonl":
        duckdb.sql(f"copy (from read_json('{tmp_path / 'rows.jsonl'}')) to '{tmp_path / path}'")
    return path


def read(source: RowSource, *order: tuple[str, ...], **options: Any) -> list[tuple[int, dict[str, Any]]]:
    return [row for batch in source.batches(order=order, **options) for row in batch]


def by(*columns: str) -> Callable[[tuple[int, dict[str, Any]]], Any]:
    """The order that is meant: nulls last, text by its bytes."""
    return lambda numbered: [
        *((numbered[1][name] is None, str(numbered[1][name]).encode()) for name in columns),
        numbered[0],
    ]


def test_rows_are_read_by_values_and_keep_their_numbers(name: str, open_at: Open) -> None:
    as_they_come = read(open_at(name))
    assert read(open_at(name), DOCUMENT, batch_size=7) == sorted(as_they_come, key=by("document"))
    assert read(open_at(name), TOPIC, DOCUMENT) == sorted(as_they_come, key=by("topic", "document"))
    assert read(open_at(name), ("row", "in", "k"), ("row", "in", "none"), ("row", "topic", "upper")) == as_they_come


def test_limit_sample_and_start_choose_before_the_order(name: str, open_at: Open) -> None:
    as_they_come = read(open_at(name))
    assert read(open_at(name, limit=50), DOCUMENT) == sorted(as_they_come[:50], key=by("document"))
    sampled = read(open_at(name, sample=20, seed=1))
    assert read(open_at(name, sample=20, seed=1), DOCUMENT) == sorted(sampled, key=by("document"))
    assert read(open_at(name), DOCUMENT, start_row=40) == sorted(as_they_come[40:], key=by("document"))


def test_rows_are_read_by_their_partners(name: str, put: Put, open_at: Open) -> None:
    put("topics.csv", "topic,text\n0,same\n1,other\n2,same\n4,\n")
    source = open_at(InputSource("rows", path=name), InputSource("topics", path="topics.csv", key=("topic", "topic")))
    texts = {0: "same", 1: "other", 2: "same"}
    as_they_come = read(source)
    assert all((row["topics"] or {}).get("text") == texts.get(row["topic"]) for _, row in as_they_come)
    expected = sorted(as_they_come, key=lambda one: (texts.get(one[1]["topic"], "~"), one[0]))
    assert read(source, ("row", "topics", "text")) == expected
    whole = sorted(as_they_come, key=lambda one: (one[1]["topic"] == 3, one[1]["topic"], one[0]))
    assert read(source, ("row", "topics")) == whole


def test_statistics_are_of_all_rows_or_of_the_first(name: str, open_at: Open) -> None:
    given = rows()
    both = frozenset({DOCUMENT, TOPIC})
    found = open_at(name).statistics({both, frozenset({DOCUMENT}), frozenset({("row", "id")})})
    assert found.num_rows == NUM_ROWS
    assert found.num_distinct[frozenset({DOCUMENT})] == 4
    assert found.num_distinct[both] == pytest.approx(20, abs=1)
    assert found.num_distinct[frozenset({("row", "id")})] == pytest.approx(NUM_ROWS, rel=0.1)
    texts = [row["document"] for row in given if row["document"] is not None]
    assert found.num_characters[DOCUMENT] == pytest.approx(sum(map(len, texts)) / len(texts))
    assert open_at(name, limit=10).statistics({both}).num_rows == 10
    exact = open_at(name).statistics({both, frozenset({("row", "id")})}, first=200)
    assert exact.num_rows == exact.num_distinct[frozenset({("row", "id")})] == 200
    assert exact.num_distinct[both] == len({(row["document"], row["topic"]) for row in given[:200]})
