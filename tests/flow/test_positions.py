"""YAML with positions: every key and value is found where it stands."""

from __future__ import annotations

import json
import re
from io import StringIO
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from sundog.errors import FlowError, Location
from sundog.flow.positions import DataPath, read_document

TEXT = """\
# a comment
name: x
prompts:
  plain: {a: "one {{ row.a }}", 'b': [1, 2.5, null]}
  block: |
    First {{ row.x }}.

      Then {{ facts.text }} and {{ row.x }}.
  folded: >-
    long
    {{ row.y }}
"""


def at(line: int, column: int) -> Location:
    return Location("f.yaml", line, column)


def test_data_is_plain() -> None:
    data = read_document(TEXT, "f.yaml").data
    assert data == {
        "name": "x",
        "prompts": {
            "plain": {"a": "one {{ row.a }}", "b": [1, 2.5, None]},
            "block": "First {{ row.x }}.\n\n  Then {{ facts.text }} and {{ row.x }}.\n",
            "folded": "long {{ row.y }}",
        },
    }
    assert type(data["prompts"]) is dict
    assert type(data["prompts"]["block"]) is str


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("name",), at(2, 1), at(2, 7)),
        (("prompts", "plain", "a"), at(4, 11), at(4, 14)),
        (("prompts", "plain", "b"), at(4, 33), at(4, 38)),
        (("prompts", "plain", "b", 1), at(4, 42), at(4, 42)),
        (("prompts", "block"), at(5, 3), at(5, 10)),
        (("prompts", "nothing", "below"), at(3, 1), at(4, 3)),
        (("prompts", "plain", "b", 9), at(4, 33), at(4, 38)),
        ((), at(2, 1), at(2, 1)),
    ],
)
def test_keys_and_values_have_places(path: DataPath, key: Location, value: Location) -> None:
    positions = read_document(TEXT, "f.yaml").positions
    assert positions.key(path) == key
    assert positions.value(path) == value


def test_text_inside_a_value_has_a_place() -> None:
    positions = read_document(TEXT, "f.yaml").positions
    assert positions.match(("prompts", "block"), re.compile("facts")) == at(8, 15)
    assert positions.match(("prompts", "folded"), re.compile(r"row\.y")) == at(11, 8)
    assert positions.match(("prompts", "plain", "a"), re.compile("row")) == at(4, 22)
    assert positions.match(("prompts", "plain", "a"), re.compile("facts")) == at(4, 14)


def test_yaml_is_1_2_and_keys_are_text() -> None:
    assert read_document("{yes: no, 1: 010, on: 2020-01-01, ~: '1'}", "f").data == {
        "yes": "no",
        "1": 10,
        "on": "2020-01-01",
        "~": "1",
    }


def test_what_is_referred_to_twice_is_read_twice() -> None:
    data = read_document("a: &x [1]\nb: *x\n", "f").data
    assert data == {"a": [1], "b": [1]}
    assert data["a"] is not data["b"]


def test_merged_keys_are_taken_over_and_own_keys_count_more() -> None:
    text = "base: &base {a: 1, b: 2}\nmore: &more {b: 3, c: 4}\nboth:\n  a: 0\n  <<: [*base, *more]\n  d: 5\n"
    document = read_document(text, "f.yaml")
    assert document.data["both"] == {"a": 0, "b": 2, "c": 4, "d": 5}
    assert document.positions.key(("both", "a")) == at(4, 3)
    assert document.positions.key(("both", "b")) == at(1, 20)
    assert document.positions.value(("both", "c")) == at(2, 23)
    assert document.data["base"] == {"a": 1, "b": 2}


def test_halves_of_a_character_are_that_character_as_in_json() -> None:
    assert read_document(json.dumps({"a \U0001f600": "\U0001f600 b"}), "f").data == {"a \U0001f600": "\U0001f600 b"}


def test_an_anchor_may_be_given_anew() -> None:
    assert read_document("a: &x 1\nb: *x\nc: &x 2\nd: *x\n", "f").data == {"a": 1, "b": 1, "c": 2, "d": 2}


@pytest.mark.parametrize(
    ("text", "place", "complaint"),
    [
        ("a: &x {b: *x}", at(1, 4), "contains itself"),
        ("<<: 1", at(1, 5), "keys of a mapping"),
        ("<<: [{a: 1}, 2]", at(1, 14), "keys of a mapping"),
        ("a: &x {<<: *x}", at(1, 4), "contains itself"),
        ("a: " + "[" * 101 + "]" * 101, at(1, 103), "deeper than 100 levels"),
        ("a: " + "[" * 3000, at(1, 103), "deeper than 100 levels"),
        (
            "\n".join(["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 120)]),
            at(1, 10),
            "deeper than 100",
        ),
        (
            "\n".join(["a0: &a0 x"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]),
            at(1, 5),
            "100,000",
        ),
        ('a: "\\ud83d x"', at(1, 4), "half a character"),
        ('a: 1\n"\\udead": 2', at(2, 1), "half a character"),
        ("a: 1\n%YAML 3.0\n---\nb: 2", at(2, 1), "directive"),
        ("%YAML 3.0\n---\na: 1", at(1, 1), "directive"),
        ("a: .nan", at(1, 4), "JSON has no number .nan"),
        ("a: !!int x", at(1, 4), "'x' is no int"),
        ("a: !!bool x", at(1, 4), "'x' is no bool"),
        ("a: !own x", at(1, 4), "tag !own"),
        ("a: !!set {b}", at(1, 4), "tag !!set"),
        ("a: *x", at(1, 4), "undefined alias"),
        ("a: b\n\x01", at(2, 1), "U\\+0001"),
        ("a: [1", at(1, 6), "bad YAML"),
        ("a: 1\n---\nb: 1", at(2, 1), "another document"),
        ("a:\n  b: 1\n\tc: 2", at(3, 1), "a tab"),
        ("a: 1\nb:\n", at(2, 1), "has no value"),
        ("? [a]\n: b", at(1, 3), "a key must be text"),
        ("a: 1\nb: {c: 1, c: 2}", at(2, 11), "written twice"),
    ],
)
def test_what_is_no_plain_data_has_a_place(text: str, place: Location, complaint: str) -> None:
    with pytest.raises(FlowError, match=complaint) as caught:
        read_document(text, "f.yaml")
    assert caught.value.where == place


SCALARS = st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="ascii", categories=["L", "N", "Zs"]))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc ", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=40)
@given(st.dictionaries(st.text("abcxyz", min_size=1), VALUES, min_size=1), st.booleans(), st.integers(2, 6))
def test_reading_gives_back_what_was_written_with_a_place_for_all_of_it(
    data: dict[str, Any], is_flow: bool, indent: int
) -> None:
    text = _dump(data, is_flow, indent)
    document = read_document(text, "f.yaml")
    assert document.data == data
    lines = text.split("\n")
    for path in _paths(data, ()):
        where = document.positions.key(path)
        if isinstance(path[-1], str):
            written = lines[where.line - 1][where.column - 1 :].lstrip("'\"?! ")
            assert written.startswith(path[-1].strip()[:1])


def _dump(data: dict[str, Any], is_flow: bool, indent: int) -> str:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = is_flow
    yaml.indent = indent
    yaml.width = 10_000  # the writer breaks long keys into lines that no reader takes
    # JSON's way of writing nothing: an empty value is refused, on purpose.
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    stream = StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()


def _paths(data: Any, path: DataPath) -> list[DataPath]:
    items: list[tuple[str | int, Any]] = []
    if isinstance(data, dict):
        items = list(data.items())
    elif isinstance(data, list):
        items = list(enumerate(data))
    return [found for key, value in items for found in [(*path, key), *_paths(value, (*path, key))]]
