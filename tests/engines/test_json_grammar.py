from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.engines.structured.json_grammar import compact_grammar
from sundog.engines.structured.json_schema import (
    ArraySchema,
    LiteralSchema,
    NumberSchema,
    ObjectSchema,
    StringSchema,
    read_schema,
)
from sundog.engines.structured.text_rules import MAX_LETTERS, MAX_NESTED
from sundog.engines.structured.tool_form import constrained_schema
from sundog.engines.tool_use import ToolSchema
from sundog.errors import BadResponse


def test_a_schema_as_pydantic_writes_it() -> None:
    schema = {
        "$defs": {"Unit": {"enum": ["m", "kg"], "title": "Unit", "type": "string"}},
        "title": "Answer",
        "type": "object",
        "properties": {
            "unit": {"$ref": "#/$defs/Unit"},
            "values": {"type": "array", "items": {"type": "number"}, "maxItems": 3},
            "note": {"anyOf": [{"type": "string"}], "default": None, "description": "free"},
            "count": {"type": "integer", "exclusiveMinimum": 0, "maximum": 9},
        },
        "required": ["unit"],
    }
    assert read_schema(json.dumps(schema)) == ObjectSchema(
        (
            ("unit", LiteralSchema(('"m"', '"kg"'))),
            ("values", ArraySchema(NumberSchema(None, None, is_integer=False), 0, 3)),
            ("note", StringSchema(0, None)),
            ("count", NumberSchema(1, 9, is_integer=True)),
        )
    )


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "string", "pattern": "a"}, "schema $: .*'pattern'"),
        ({"type": "object", "properties": {"a": {"type": "string", "format": "date"}}}, r"schema \$.a: .*'format'"),
        ({"type": "array", "items": {}}, r"schema \$\[\]: .*type None"),
        ({"type": "object"}, "without properties"),
        ({"type": "object", "properties": {"a": {"type": "null"}}, "required": ["b"]}, "field 'b'"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}, "recursive"),
        ({"$ref": "other.json"}, "leads nowhere"),
        ({"oneOf": [{"type": "null"}]}, "'oneOf'"),
        ({"type": "number", "minimum": 0.5}, "fractional minimum"),
        ({"type": "float"}, "the type 'float'"),
        ([], "says nothing"),
    ],
)
def test_what_lies_outside_is_refused_with_its_place(schema: Any, says: str) -> None:
    with pytest.raises(BadResponse) as caught:
        read_schema(json.dumps(schema))
    assert re.search(says.replace("$:", r"\$:"), str(caught.value))
    assert not caught.value.retryable
    assert caught.value.hint


def pattern_of(grammar: str) -> re.Pattern[str]:
    """The grammar as a regular expression: it has no recursion, so its rules can be put into one another."""
    lines = dict(line.split(" ::= ") for line in grammar.strip().split("\n"))

    def translate(rule: str) -> str:
        out, rest = "", rule
        while rest:
            literal = re.match(r'"((?:[^"\\]|\\.)*)"', rest)
            characters = re.match(r"\[(?:[^\]\\]|\\.)*\]", rest)
            name = re.match(r"[a-z]\w*", rest)
            if literal:
                out += re.escape(json.loads(f'"{literal[1]}"'))
            elif characters:
                out += characters[0]
            elif name:
                out += f"(?:{translate(lines[name[0]])})"
            else:
                out += rest[0].strip()
            rest = rest[len((literal or characters or name or [rest[0]])[0]) :]
            bounds = re.match(r"\{(\d+)(,\d+)?\}", rest)
            if bounds:
                out, rest = out + bounds[0], rest[len(bounds[0]) :]
        return out

    return re.compile(translate(lines["root"]), re.S)


def matches(schema: Any, text: str, max_tokens: int | None = None) -> bool:
    return pattern_of(compact_grammar(json.dumps(schema), max_tokens)).fullmatch(text) is not None


@given(st.integers(-2500, 2500), st.integers(0, 2500), st.integers(-3000, 3000))
def test_integers_are_within_their_bounds_exactly(low: int, width: int, value: int) -> None:
    schema = {"type": "integer", "minimum": low, "maximum": low + width}
    for probe in (value, low, low + width, low - 1, low + width + 1):
        assert matches(schema, str(probe)) == (low <= probe <= low + width)


@given(st.integers(-30, 30), st.integers(0, 40), st.decimals(-80, 80, places=2))
def test_numbers_are_within_their_bounds(low: int, width: int, value: Any) -> None:
    schema = {"type": "number", "minimum": low, "maximum": low + width}
    assert matches(schema, str(value)) or not low < value < low + width
    assert not matches(schema, str(value)) or low <= value <= low + width
    assert matches(schema, str(low))
    assert matches(schema, str(low + width))


def test_open_numbers() -> None:
    for text, is_integer, is_number in (
        ("0", 1, 1),
        ("-7", 1, 1),
        ("1.5", 0, 1),
        ("-0.25", 0, 1),
        ("01", 0, 0),
        ("1e3", 0, 0),
    ):
        assert matches({"type": "integer"}, text) == is_integer
        assert matches({"type": "number"}, text) == is_number


@given(st.integers(-2000, 2000), st.integers(-10_000_000, 10_000_000), st.booleans())
def test_numbers_with_one_bound(bound: int, value: int, is_upper: bool) -> None:
    schema = {"type": "integer", "maximum" if is_upper else "minimum": bound}
    assert matches(schema, str(bound))
    assert matches(schema, str(value)) == (value <= bound if is_upper else value >= bound)


def most_digits(schema: Any, max_tokens: int, before: str, after: str) -> int:
    return max((n for n in range(1, 30) if matches(schema, f"{before}{'9' * n}{after}", max_tokens)), default=0)


@pytest.mark.parametrize(("max_tokens", "num_digits"), [(10, 5), (14, 9), (30, 15), (300, 15)])
def test_numbers_are_fitted_to_the_budget(max_tokens: int, num_digits: int) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    assert most_digits(schema, max_tokens, '{"n":-', "}") == num_digits


def test_what_numbers_leave_of_the_budget_is_for_texts() -> None:
    fields = {"n": {"type": "integer"}, "y": {"type": "number"}, "t": {"type": "string"}}
    schema = {"type": "object", "properties": fields}
    assert matches(schema, f'{{"n":1,"y":-2.5,"t":"{"x" * 100}"}}', 120)
    assert most_digits(schema, 120, '{"n":', ',"y":0,"t":""}') == 15


def test_objects_are_compact_and_complete() -> None:
    schema = {"type": "object", "properties": {'a"b': {"type": "boolean"}, "ü\n": {"enum": ["x y", 3, None]}}}
    assert matches(schema, '{"a\\"b":true,"ü\\n":"x y"}')
    assert matches(schema, '{"a\\"b":false,"ü\\n":null}')
    assert not matches(schema, '{"a\\"b": true,"ü\\n":"x y"}')
    assert not matches(schema, '{"a\\"b":true}')


def test_lists_obey_their_lengths() -> None:
    schema = {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3}
    lists = ["[]", "[true]", "[true,false]", "[true,true,true]", "[true,true,true,true]"]
    assert [matches(schema, text) for text in lists] == [False, True, True, True, False]
    assert matches({**schema, "minItems": 0}, "[]")
    assert matches({**schema, "minItems": 0, "maxItems": 0}, "[]")
    assert not matches({**schema, "minItems": 0, "maxItems": 0}, "[true]")


@pytest.mark.parametrize(("most", "least"), [(0, 0), (1, 0), (20, 5), (127, 3), (128, 0), (300, 2)])
def test_strings_obey_their_lengths_exactly(most: int, least: int) -> None:
    schema = {"type": "string", "minLength": least, "maxLength": most}
    for length in {least - 1, least, most, most + 1} - {-1}:
        assert matches(schema, json.dumps("x" * length)) == (least <= length <= most), length


@given(st.integers(100, MAX_NESTED), st.integers(0, 100), st.integers(0, 600))
def test_strings_have_each_length_between_their_bounds(most: int, least: int, length: int) -> None:
    schema = {"type": "string", "minLength": least, "maxLength": most}
    for probe in (length, least, most, most + 1):
        assert matches(schema, json.dumps("x" * probe)) == (least <= probe <= most), probe


@given(st.integers(500, 60_000), st.integers(0, 100), st.lists(st.integers(0, 140), max_size=200))
def test_longer_strings_are_words_and_never_too_long(most: int, least: int, words: list[int]) -> None:
    schema = {"type": "string", "minLength": least, "maxLength": most}
    text = "y" * least + " ".join("x" * word for word in words)
    if matches(schema, f'"{text}"', max_tokens=400):
        assert len(text) <= most
    assert matches(schema, f'"{"y" * least} a few words"', max_tokens=400)


@given(st.integers(16, 60))
def test_strings_without_a_bound_get_one_from_the_budget(max_tokens: int) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
    longest = max(
        n for n in range(200) if matches(schema, json.dumps({"a": "x" * n, "b": ""}, separators=(",", ":")), max_tokens)
    )
    assert 8 <= longest <= max(max_tokens, 16)


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=120))
def test_a_string_without_a_bound_has_any_text_of_few_enough_words(text: str) -> None:
    """Thirty tokens allow ten words besides the first: marks, each with the letters and digits that follow it."""
    words = re.findall(r"[^a-zA-Z0-9]?[a-zA-Z0-9]*", text, re.S)[:-1]
    num_marked = sum(not re.match("[a-zA-Z0-9]", word) for word in words)
    fits = num_marked <= 10 and all(len(word) <= 32 for word in words)
    assert matches({"type": "string"}, json.dumps(text, ensure_ascii=False), max_tokens=30) == fits


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-29T10:00:00Z",
        "src/sundog/engines/structured/text_rules.py",
        "https://example.com/a/b?c=d&e=f",
        "Der Donaudampfschiffkapitän, der's weiß",
        "a" * MAX_LETTERS,
        "東京都千代田区",
        'def f(x):\n    return {"a": [x, -1.5]}\n',
    ],
)
def test_strings_without_a_bound_are_all_sorts_of_text(text: str) -> None:
    assert matches({"type": "string", "minLength": 1}, json.dumps(text, ensure_ascii=False), max_tokens=100)


def places(grammar: str) -> tuple[int, int]:
    """How many places of a grammar read any character, and how many read a letter or a digit: before the first token
    xgrammar compares the whole vocabulary with each, which takes 16 ms and 2 ms."""
    counts = {"char": 0, "mark": 0, "letter": 0}
    for line in grammar.split("\n"):
        name, body = line.split(" ::= ")
        if name not in counts:
            bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", body)
            for read, most in re.findall(r"\b(char|mark|letter)\b\)?(?:\{\d+,(\d+)\})?", bare):
                counts[read] += int(most or 1)
    return counts["char"] + counts["mark"], counts["letter"]


def tools(number: int) -> list[ToolSchema]:
    fields = {
        "path": {"type": "string"},
        "limit": {"type": "integer", "minimum": 1, "maximum": 100},
        "mode": {"enum": ["read", "write"]},
        "where": {"type": "object", "properties": {"city": {"type": "string"}, "latitude": {"type": "number"}}},
        "tags": {"type": "array", "items": {"type": "string"}},
    }
    return [ToolSchema(f"tool_{i}", "", json.dumps({"type": "object", "properties": fields})) for i in range(number)]


@pytest.mark.parametrize("max_tokens", [256, None, 8192])
def test_the_places_that_a_grammar_reads_do_not_grow_with_the_tools(max_tokens: int | None) -> None:
    counts = [
        places(compact_grammar(constrained_schema(tools(number), "auto", None), max_tokens)) for number in (1, 3, 8)
    ]
    assert counts == [counts[0]] * 3
    assert counts[0][0] <= 4
    assert counts[0][1] <= 32


def test_strings_of_one_length_are_counted_once() -> None:
    def counted(*lengths: int) -> tuple[int, int]:
        fields = {f"f{i}": {"type": "string", "maxLength": length} for i, length in enumerate(lengths)}
        return places(compact_grammar(json.dumps({"type": "object", "properties": fields}), 1_000_000))

    assert counted(*[100] * 8) == (100, 0)
    assert counted(*[300] * 8, 20_000, 30_000) == (301, 32)


def test_text_is_escaped_and_has_no_control_characters() -> None:
    assert matches({"type": "string"}, r'"a\n\"b\\ ü🎉"')
    assert not matches({"type": "string"}, '"a\nb"')
    assert not matches({"type": "string"}, '"a"b"')


def test_what_no_grammar_can_say_is_refused() -> None:
    for schema in (
        {"type": "array", "items": {"type": "null"}, "minItems": 500},
        {"type": "string", "minLength": 500},
        {"type": "integer", "minimum": 2, "maximum": 1},
    ):
        with pytest.raises(BadResponse):
            compact_grammar(json.dumps(schema), None)
