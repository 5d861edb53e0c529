"""JSON documents: the elements of an array as rows, wherever the array is."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sundog.errors import InputError
from sundog.ir.logical import InputSource
from sundog.runtime.rows.formats import json_elements
from sundog.runtime.rows.formats.json_elements import NoArray, elements
from sundog.runtime.rows.inputs import RowSource

Put = Callable[[str, str | bytes], Path]
Open = Callable[..., RowSource]
Read = Callable[..., list[Any]]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def at(path: str | None) -> InputSource:
    return InputSource("rows", path="a.json", at=path)


def test_an_array_of_objects(put: Put, read: Read) -> None:
    put("a.json", '\ufeff [ {"a": 1, "b": "x\\n]"},\r\n\n{"a":\n[{}]} ]\n')
    put("b.json.gz", gzip.compress(b'[{"a": 2}]'))
    put("none.json", "[ ]")
    assert read("a.json") == [{"a": 1, "b": "x\n]"}, {"a": [{}], "b": None}]
    assert read("b.json.gz") == [{"a": 2}]
    assert read("none.json") == []


def test_an_array_inside(put: Put, read: Read, open_at: Open) -> None:
    put("a.json", json.dumps({"meta": {"items": [1]}, "items": {"more": "{", "rows": [{"a": 1}, {"a": 2}]}, "z": [{}]}))
    assert read(at("items.rows")) == [{"a": 1}, {"a": 2}]
    assert read(at("z")) == [{}]
    assert open_at(at("z")).content_identity() != open_at(at("items.rows")).content_identity()


@pytest.mark.parametrize(
    ("content", "path", "what"),
    [
        ('{"rows": [{}], "n": 1}', None, "a.json: there is an object at the top, not an array; its keys: rows, n"),
        ('{"rows": [{}]}', "row", "a.json: there is no 'row' at the top; the keys there: rows"),
        ('{"rows": [{}]}', "rows.x", "a.json: there is no object at 'rows', but an array"),
        ('{"rows": 5, "n": 1}', "rows", "a.json: there is no array at 'rows', but a single value"),
        ('{"rows": {"n": 1}}', "rows", "a.json: there is an object at 'rows', not an array; its keys: n"),
        ("5", None, "a.json: this is no JSON array of objects"),
        ('x [{"a": 1}]', None, "a.json: this is no JSON array of objects"),
        ("[{}", None, "a.json: the document ends inside the array: it is cut off, or a bracket is missing"),
        ('[{"a": "x', None, "a.json: the document ends inside a text: it is cut off, or a quote is missing"),
        ('{"rows": [{}]', "rows", "a.json: the document ends before its brackets are closed: it is cut off"),
        ("[{}] ]", None, "a.json: something follows the end of the document"),
        ('[{"a": 1}]\n[{"a": 2}]', None, "a.json: something follows the end of the document"),
        ("[{}] x", None, "a.json: something follows the end of the document"),
        ('{"rows": [{}]} {"rows": [{}]}', "rows", "a.json: something follows the end of the document"),
        ("[{},]", None, "a.json: element 2 of the array is missing: there is a comma too many"),
        ("[{}, 5]", None, "a.json: element 2: this line is not a JSON object: '5'"),
        ('[{"a": NaN}]', None, "a.json: element 1: this line is not JSON (expected value at column 7): '{\"a\": NaN}'"),
        ('[{"a": "x\ny"}]', None, "a.json: element 1: this line is not JSON"),
        (b'[{"a": "\xff"}]', None, "a.json: element 1: this line is not JSON"),
    ],
)
def test_a_bad_document(put: Put, open_at: Open, content: str | bytes, path: str | None, what: str) -> None:
    put("a.json", content)
    with pytest.raises(InputError) as caught:
        open_at(at(path)).count()
    assert f"{caught.value.where}: {caught.value.what}".startswith(what)
    assert caught.value.hint
    assert "each line" not in caught.value.hint


def test_a_path_is_for_documents_only(put: Put, open_at: Open) -> None:
    put("a.jsonl", "{}\n")
    with pytest.raises(InputError, match="has `at`, but a jsonl file holds no array"):
        open_at(InputSource("rows", path="a.jsonl", at="x")).count()


@settings(deadline=None)
@given(st.lists(VALUES, max_size=6), VALUES, st.sampled_from([None, 1]), st.integers(1, 40))
def test_elements_are_found_whatever_stands_around(rows: list[Any], other: Any, indent: int | None, size: int) -> None:
    document = json.dumps({"before": other, "a": {"x": other, "rows": rows}, "after": other}, indent=indent).encode()
    before, json_elements.CHUNK_BYTES = json_elements.CHUNK_BYTES, size
    try:
        found = [json.loads(element) for element in elements(BytesIO(document), ("a", "rows"))]
        cut = BytesIO(document[:-1])
        with pytest.raises(NoArray):
            list(elements(cut, ("a", "rows")))
    finally:
        json_elements.CHUNK_BYTES = before
    assert found == rows


def test_an_element_is_bounded_and_the_document_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_elements, "CHUNK_BYTES", 64)
    monkeypatch.setattr(json_elements, "MAX_LINE_BYTES", 1000)
    held = 0
    for element in elements(BytesIO(b"[" + b",".join([b'{"a": 1}'] * 1000) + b"]" + b" " * 5000), ()):
        held = max(held, len(element))
    assert held == len('{"a": 1}')
    with pytest.raises(json_elements.TooLong, match="2"):
        list(elements(BytesIO(b'[{}, {"a": [' + b"1," * 2000 + b"1]}]"), ()))
