"""A value with a normal form can be written and read back; one that has none is told by its place."""

from __future__ import annotations

import base64
import enum
import uuid
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from sundog.ir.values.normal_form import MAX_LEVELS, NoNormalForm, decode, encode, normal_form, whole_text

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**4298, 10**4302)
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.decimals()
    | st.dates()
    | st.uuids()
    | st.builds(object),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.none(), inner, max_size=3)
        | st.integers(1, 130).flatmap(lambda levels: inner.map(lambda value: nested(value, levels)))
    ),
    max_leaves=8,
)


def nested(value: Any, levels: int) -> Any:
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


@settings(max_examples=300, deadline=None)
@given(ANYTHING)
def test_what_has_a_form_is_written_and_read_back_as_it_is(value: Any) -> None:
    try:
        form = normal_form(value)
    except NoNormalForm:
        return
    assert decode(encode(form)) == form
    assert normal_form(form) == form
    # An output row and a loop put some levels around a value, and all of it is read back.
    assert decode(encode(nested(form, 50))) == nested(form, 50)


class Color(enum.StrEnum):
    RED = "red"


class Model(BaseModel):
    raw: bytes = b"\xfb\xff"
    day: date = date(2024, 1, 2)


class Aliased(BaseModel):
    is_open: bool = Field(default=True, alias="open")


@dataclass
class Pair:
    left: Any
    right: Any


class Text(str):
    pass


class Number(float):
    pass


def numbers() -> Iterator[int]:
    yield from range(3)


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (b"\xfb\xff", "+/8="),
        (bytearray(b"ab"), "YWI="),
        (Decimal("1.50"), "1.50"),
        (date(2024, 1, 2), "2024-01-02"),
        (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00Z"),
        (timedelta(seconds=90), "PT1M30S"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("a/b"), "a/b"),
        (Color.RED, "red"),
        ({Color.RED: Text("x")}, {"red": "x"}),
        (Number(0.5), 0.5),
        ((1, (2,)), [1, [2]]),
        ({"b", "a", "c"}, ["a", "b", "c"]),
        (numbers(), [0, 1, 2]),
        (deque([1]), [1]),
        (OrderedDict(a=(1,)), {"a": [1]}),
        (Model(), {"raw": "+/8=", "day": "2024-01-02"}),
        (Aliased(), {"open": True}),
        (Pair(1, [Model()]), {"left": 1, "right": [{"raw": "+/8=", "day": "2024-01-02"}]}),
        (10**4300 - 1, 10**4300 - 1),
    ],
)
def test_what_other_types_become(value: Any, form: Any) -> None:
    found = normal_form(value)
    assert found == form
    assert type(found) is type(form)
    assert decode(encode(found)) == form


def broken() -> Iterator[int]:
    yield 1
    raise LookupError("gone")


def ring() -> Any:
    value: list[Any] = [1]
    value.append({"again": value})
    return value


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (float("nan"), "the value is NaN, which is no JSON number"),
        ({"a": [0, -float("inf")]}, "the value['a'][1] is minus infinity, which is no JSON number"),
        (Number("inf"), "the value is infinity, which is no JSON number"),
        (Decimal("NaN"), "the value is NaN, which is no JSON number"),
        ([10**4300], "the value[0] is an integer of more than 4,300 digits"),
        ({"a": "\ud800"}, "the value['a'] is text with half a surrogate pair, which is no Unicode character"),
        ({"\udc00": 1}, "the value is text with half a surrogate pair, which is no Unicode character"),
        ({"a": {1: 2}}, "the value['a'] has the key 1, which is no text but of type int"),
        ({b"a": 1}, "the value has the key b'a', which is no text but of type bytes"),
        (ring(), "the value[1]['again'] contains itself"),
        ([object()], "the value[0] is of type object"),
        ({"a": broken()}, "the value['a'] cannot be read: LookupError: gone"),
        (Pair(0, Model), "the value['right'] is of type ModelMetaclass"),
    ],
)
def test_what_has_no_form_is_told_by_place_and_reason(value: Any, told: str) -> None:
    with pytest.raises(NoNormalForm) as caught:
        normal_form(value)
    assert str(caught.value) == told


def test_levels_are_counted_whatever_they_are_made_of() -> None:
    assert normal_form(nested(1, MAX_LEVELS)) == nested(1, MAX_LEVELS)
    for innermost in ([1], {"a": 1}, (1,), {1}, Pair(1, 2)):
        with pytest.raises(NoNormalForm, match="more than 100 levels"):
            normal_form(nested(innermost, MAX_LEVELS))


def test_one_object_in_many_places_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.ir.values.normal_form.MAX_VALUES", 1000)
    value: Any = [1, 1]
    assert normal_form([value, value]) == [[1, 1], [1, 1]], "no ring: the same object twice is two values"
    for _ in range(20):
        value = [value, value]
    with pytest.raises(NoNormalForm, match="more than 1,000 values"):
        normal_form(value)


def test_a_form_is_a_copy() -> None:
    inner: dict[str, Any] = {"a": 1}
    form, flat = normal_form([inner]), normal_form(inner)
    inner["a"] = 2
    assert (form, flat) == ([{"a": 1}], {"a": 1})


def test_a_value_too_long_to_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.ir.values.normal_form.MAX_BYTES", 10)
    with pytest.raises(NoNormalForm, match="the value takes 14 bytes as JSON, and at most 10 are kept"):
        encode("x" * 12)


def test_rows_may_have_null_for_what_is_no_number() -> None:
    heard: list[None] = []
    form = normal_form({"a": [float("nan"), 1.5], "b": Decimal("inf")}, on_not_finite=lambda: heard.append(None))
    assert form == {"a": [None, 1.5], "b": None}
    assert len(heard) == 2


def test_bytes_have_one_alphabet_wherever_they_stand() -> None:
    raw = bytes(range(256))
    expected = base64.b64encode(raw).decode()
    assert normal_form(raw) == normal_form(Pair(raw, 0))["left"] == normal_form(Model(raw=raw))["raw"] == expected


@pytest.mark.parametrize(
    ("text", "whole"),
    [("a\ud800", "a\ufffd"), ("\udc00é", "\ufffdé"), ("\ud83d\ude00", "\U0001f600"), ("é", "é"), ("", "")],
)
def test_halves_of_a_pair_are_joined_or_replaced(text: str, whole: str) -> None:
    assert whole_text(text) == whole
