"""Lines that are JSON and hold what no row can hold: the row is bad, the file is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sundog.execution.input_row import BadRow
from sundog.ir.logical import InputSource
from sundog.ir.values.normal_form import MAX_SHOWN_PATH
from sundog.runtime.rows.inputs import RowSource

Put = Callable[[str, str | bytes], Path]
Open = Callable[..., RowSource]
Read = Callable[..., list[Any]]

PATH = f"the value{('[' + repr('a') + ']' + '[0]' * 99)[:MAX_SHOWN_PATH]}... is nested more than 100 levels deep"
DEEP = "the value is nested more than 100 levels deep"
HALF = "the value['a'] is text with half a surrogate pair, which is no Unicode character"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (r'"\ud800"', HALF),
        (
            r'["x", {"\udc00": 1}]',
            "the value['a'][1] is text with half a surrogate pair, which is no Unicode character",
        ),
        ("1e999", "the value['a'] is infinity, which is no JSON number"),
        ("-1e999", "the value['a'] is minus infinity, which is no JSON number"),
        ("9" * 5000, "the value['a'] is an integer of more than 4,300 digits"),
        ("[" * 150 + "]" * 150, PATH),
        ("[" * 250 + "]" * 250, PATH),
        ("[" * 5000 + "]" * 5000, DEEP),
    ],
)
def test_such_a_value_fails_its_row_alone(put: Put, read: Read, open_at: Open, value: str, reason: str) -> None:
    put("a.jsonl", f'\ufeff{{"a": 1, "b": 2}}\n\n{{"a": {value}}}\n{{"b": 3}}\n')
    put("a.json", f'[{{"a": 1, "b": 2}},\n{{"a": {value}}}\n, {{"b": 3}}]')
    expected = [{"a": 1, "b": 2}, BadRow(reason), {"a": None, "b": 3}]
    for name in ("a.jsonl", "a.json"):
        assert read(name) == expected
        source = open_at(name)
        assert source.count() == 3
        assert source.sampled(10) == [(0, expected[0]), (2, expected[2])]


@pytest.mark.parametrize(
    "more",
    [
        InputSource("more", path="more.jsonl", key=("k", "k")),
        InputSource("more", call="partners:partners", key=("k", "k")),
        InputSource("more", query="select k, a::json as a from 'partners.csv'", key=("k", "k")),
    ],
    ids=lambda more: "path" if more.path else "call" if more.call else "query",
)
def test_a_bad_partner_makes_its_row_bad(put: Put, read: Read, more: InputSource) -> None:
    put("rows.jsonl", '{"k": 1}\n{"k": 2}\n{"k": 3}\n{"k": 4}\n')
    # DuckDB refuses the whole file for the half of a pair, and takes the number beyond a double.
    put("more.jsonl", '{"k": 1, "a": "\\ud800"}\n{"k": 2, "a": 1e999}\n{"k": 3, "a": 5}\n')
    rows = [{"k": 1, "a": "\ud800"}, {"k": 2, "a": "\udc00"}, {"k": 3, "a": 5}]
    put("partners.py", f"def partners():\n    return {rows!r}\n")
    put("partners.csv", "k,a\n1,1e999\n2,1e999\n3,5\n")
    first, second, *others = read(InputSource("rows", path="rows.jsonl"), more)
    assert others == [{"k": 3, "more": {"k": 3, "a": 5}}, {"k": 4, "more": None}]
    for bad in (first, second):
        assert isinstance(bad, BadRow)
        assert bad.reason.startswith("its row of input 'more': ")


def test_a_json_column_of_a_query_is_checked_too(read: Read) -> None:
    deep = "[" * 3000 + "]" * 3000
    rows = read(InputSource("rows", query=f"""select unnest(['{{"x": 1e999}}', '{{"x": 1}}', '{deep}'])::json as a"""))
    assert rows == [
        BadRow("column 'a': the value['x'] is infinity, which is no JSON number"),
        {"a": {"x": 1}},
        BadRow("column 'a': the value is nested more than 100 levels deep"),
    ]
