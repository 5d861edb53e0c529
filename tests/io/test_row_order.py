"""Rows read by values: the same rows under the same numbers, in another order."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import pytest

from sundog.execution.input_row import BadRow
from sundog.ir.logical import InputSource
from sundog.runtime.rows.inputs import RowSource

Put = Callable[[str, str | bytes], Path]
Open = Callable[..., RowSource]
DOCUMENT, TOPIC = ("row", "document"), ("row", "topic")
NUM_ROWS = 300
Numbered = tuple[int, dict[str, Any]]


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


def document(row: dict[str, Any]) -> Any:
    return row["document"]


def topic(row: dict[str, Any]) -> Any:
    return row["topic"]


def read(source: RowSource, *order: tuple[str, ...], **options: Any) -> list[Numbered]:
    batches = source.batches(order=order, **options)
    return [(index, row) for batch in batches for index, row in batch if not isinstance(row, BadRow)]


def check_grouped(found: list[Numbered], expected: list[Numbered], *values: Callable[[dict[str, Any]], Any]) -> None:
    """The same rows, side by side where equal in the first value, then in the next, then by number."""
    assert sorted(found, key=itemgetter(0)) == expected
    for depth in range(1, len(values) + 1):
        groups = [[value(row) for value in values[:depth]] for _, row in found]
        starts = [group for index, group in enumerate(groups) if index == 0 or groups[index - 1] != group]
        assert all(group not in starts[:index] for index, group in enumerate(starts)), "a group in two places"
    for (first, one), (second, other) in pairwise(found):
        assert first < second or any(value(one) != value(other) for value in values)


def test_rows_are_read_by_values_and_keep_their_numbers(name: str, open_at: Open) -> None:
    as_they_come = read(open_at(name))
    check_grouped(read(open_at(name), DOCUMENT, batch_size=7), as_they_come, document)
    check_grouped(read(open_at(name), TOPIC, DOCUMENT), as_they_come, topic, document)
    assert read(open_at(name), ("row", "in", "k"), ("row", "in", "none"), ("row", "topic", "upper")) == as_they_come


def test_limit_sample_and_start_choose_before_the_order(name: str, open_at: Open) -> None:
    as_they_come = read(open_at(name))
    check_grouped(read(open_at(name, limit=50), DOCUMENT), as_they_come[:50], document)
    sampled = read(open_at(name, sample=20, seed=1))
    check_grouped(read(open_at(name, sample=20, seed=1), DOCUMENT), sampled, document)
    check_grouped(read(open_at(name), DOCUMENT, start_row=40), as_they_come[40:], document)


def test_rows_are_read_by_their_partners(name: str, put: Put, open_at: Open) -> None:
    put("topics.csv", "topic,text\n0,same\n1,other\n2,same\n4,\n")
    source = open_at(InputSource("rows", path=name), InputSource("topics", path="topics.csv", key=("topic", "topic")))
    texts = {0: "same", 1: "other", 2: "same"}
    as_they_come = read(source)
    assert all((row["topics"] or {}).get("text") == texts.get(row["topic"]) for _, row in as_they_come)
    check_grouped(read(source, ("row", "topics", "text")), as_they_come, lambda row: texts.get(row["topic"]))
    check_grouped(read(source, ("row", "topics")), as_they_come, lambda row: row["topic"] if row["topics"] else None)


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


def test_what_was_kept_to_be_sorted_is_gone_afterwards(name: str, open_at: Open) -> None:
    source = open_at(name)
    read(source, DOCUMENT)
    batches = source.batches(order=[DOCUMENT], batch_size=7)
    next(batches)
    batches.close()  # type: ignore[attr-defined]  # a generator
    tables = [name for (name,) in source._connection.sql("show tables").fetchall()]
    assert [name for name in tables if name.startswith("scratch_")] == []


@pytest.mark.parametrize("options", [{}, {"limit": 50}, {"sample": 20, "seed": 1}])
def test_groups_are_counted_in_the_order_in_which_they_are_read(
    name: str, open_at: Open, options: dict[str, int]
) -> None:
    runs = [
        (value, len(list(group)))
        for value, group in groupby(document(row) for _, row in read(open_at(name, **options), DOCUMENT))
    ]
    source = open_at(name, **options)
    assert [size for size, _ in source.group_sizes(DOCUMENT, 0)] == [size for _, size in runs]
    assert [shown for _, shown in source.group_sizes(DOCUMENT, 0)] == [value for value, _ in runs]
    largest = max(size for _, size in runs)
    assert {shown for _, shown in source.group_sizes(DOCUMENT, largest)} == {None}


def test_of_a_value_the_beginning_is_shown(open_at: Open, put: Put) -> None:
    put("rows.jsonl", json.dumps({"document": "abcdef", "in": {"k": 12345}}))
    assert list(open_at("rows.jsonl").group_sizes(DOCUMENT, 0, 3)) == [(1, "abc")]
    assert list(open_at("rows.jsonl").group_sizes(("row", "in", "k"), 0, 3)) == [(1, "123")]


def test_groups_of_a_joined_value_are_counted(open_at: Open, put: Put) -> None:
    put("rows.csv", "id,owner\n1,a\n2,b\n3,a\n")
    put("owners.csv", "name,text\na,long\nb,long\n")
    owners = InputSource("owners", path="owners.csv", key=("name", "owner"))
    source = open_at("rows.csv", owners)
    assert list(source.group_sizes(("row", "owners", "text"), 0)) == [(3, "long")]
