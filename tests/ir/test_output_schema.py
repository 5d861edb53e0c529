"""Structured output: the short form, full JSON Schema, and what answers pass."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest

from sundog.errors import BadResponse
from sundog.ir.schemas import answer_check
from sundog.ir.schemas.output_schema import OutputSchema, parse_answer
from sundog.ir.schemas.shape import Anything, ListOf, Record, Scalar

EVERYTHING = {
    "answer": "str",
    "unit": ["none", "thousand", 3, None],
    "score": "int",
    "share": "float",
    "sure": "bool",
    "tags": "list[str]",
    "grid": "list[ list[int] ]",
    "who": {"name": "str"},
    "figures": [{"name": "str", "value": "float"}],
}
ANSWER = {
    "answer": "a",
    "unit": "none",
    "score": 1,
    "share": 0.5,
    "sure": True,
    "tags": ["x"],
    "grid": [[1]],
    "who": {"name": "n"},
    "figures": [{"name": "n", "value": 1}],
}


def test_the_short_form_is_a_closed_object_in_the_order_written() -> None:
    schema = json.loads(OutputSchema.of(EVERYTHING).text)
    assert list(schema["properties"]) == schema["required"] == list(EVERYTHING)
    assert schema["additionalProperties"] is False
    assert schema["properties"] == {
        "answer": {"type": "string"},
        "unit": {"enum": ["none", "thousand", 3, None]},
        "score": {"type": "integer"},
        "share": {"type": "number"},
        "sure": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "grid": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
        "who": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
            "additionalProperties": False,
        },
        "figures": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "value": {"type": "number"}},
                "required": ["name", "value"],
                "additionalProperties": False,
            },
        },
    }


def test_the_shape_knows_what_the_schema_closes() -> None:
    shape = OutputSchema.of({"a": "str", "b": [{"c": "int"}], "d": ["x", "y"]}).shape
    assert shape == Record.of(a=Scalar(), b=ListOf(Record.of(c=Scalar())), d=Scalar())
    assert OutputSchema.of({"json_schema": {"type": "object", "properties": {"a": {}}}}).shape == Anything()


def test_full_json_schema_is_kept_as_it_is() -> None:
    schema = {
        "type": "object",
        "properties": {"z": {"$ref": "#/$defs/z"}, "a": {"type": "string", "pattern": "^x"}},
        "$defs": {"z": {"type": "integer"}},
    }
    output = OutputSchema.of({"json_schema": schema})
    assert json.loads(output.text) == schema
    assert parse_answer('{"z": 1, "more": 2}', output.text) == {"z": 1, "more": 2}
    with pytest.raises(BadResponse, match=r"\$\.z: 'one' is not of type 'integer'"):
        parse_answer('{"z": "one"}', output.text)


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("str", "'output' must be a mapping"),
        ({}, "'output' must be a mapping"),
        ({"a": "string"}, "'output.a' has the unknown type 'string'; did you mean 'str'"),
        ({"a": "list[strin]"}, "unknown type"),
        ({"a": ["one"]}, "two or more"),
        ({"a": ["str"]}, r"written list\[str\]"),
        ({"a": ["str", "int"]}, "more than one type"),
        ({"a": ["x", "x"]}, "twice"),
        ({"a": ["x", ["y"]]}, "must list text"),
        ({"a": 3}, "'output.a' is no type: 3"),
        ({"a": {"b": {}}}, "'output.a.b' must be a mapping"),
        ({"text": "str"}, "whole answer"),
        ({"json_schema": {"type": "object"}, "a": "str"}, "stands alone"),
        ({"json_schema": {"type": "array"}}, "must describe an object"),
        ({"json_schema": {"type": "object", "required": 3}}, "is no JSON Schema"),
        ({"json_schema": {"type": "object", "$schema": []}}, "'\\$schema' is no text"),
        ({"json_schema": {"type": "object", "properties": {"a": {"$ref": "#/no"}}}}, "refers to '#/no'"),
        ({"json_schema": {"type": "object", "properties": {"a": {"$ref": "http://x/y"}}}}, "refers to 'http://x/y'"),
    ],
)
def test_wrong_forms_are_refused_with_their_field(written: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        OutputSchema.of(written)


def test_an_answer_that_fits_is_its_object() -> None:
    assert parse_answer(json.dumps(ANSWER), OutputSchema.of(EVERYTHING).text) == ANSWER


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"unit": "million"}, r"\$\.unit: 'million' is not one of"),
        ({"score": "1"}, r"\$\.score"),
        ({"more": 1}, "Additional properties"),
        ({"grid": [["x"]]}, r"\$\.grid\[0\]\[0\]"),
    ],
)
def test_an_answer_that_does_not_fit_says_where(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadResponse, match=complaint):
        parse_answer(json.dumps({**ANSWER, **change}), OutputSchema.of(EVERYTHING).text)


@pytest.mark.parametrize("answer", ["", "Sure! {}", '{"a": NaN}', "[1]", '{"a": 1', "null"])
def test_what_is_no_object_is_a_bad_response(answer: str) -> None:
    with pytest.raises(BadResponse) as caught:
        parse_answer(answer, OutputSchema.of({"a": "float"}).text)
    assert not caught.value.retryable


def test_the_beginning_of_the_answer_is_shown() -> None:
    with pytest.raises(BadResponse) as caught:
        parse_answer("x" * 500, OutputSchema.of({"a": "str"}).text, hint="ask again", retryable=True)
    assert caught.value.hint == f"ask again; the answer begins with '{'x' * 200}'"
    assert caught.value.retryable


def schema_of(properties: dict[str, Any], **more: Any) -> OutputSchema:
    return OutputSchema.of({"json_schema": {"type": "object", "properties": properties, **more}})


@pytest.mark.parametrize(
    ("properties", "more", "way"),
    [
        (
            {"a": {"$ref": "#/$defs/a"}},
            {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
            "#/$defs/b",
        ),
        ({"a": {"$ref": "#/properties/a"}}, {}, "#/properties/a"),
        ({}, {"allOf": [{"$ref": "#"}]}, "allOf -> #"),
        ({}, {"anyOf": [{"type": "object"}, {"not": {"$ref": "#"}}]}, "anyOf -> not -> #"),
        ({}, {"if": {"type": "object"}, "then": {"$ref": "#"}}, "then -> #"),
        ({}, {"dependentSchemas": {"a": {"$ref": "#"}}}, "dependentSchemas -> #"),
        ({"a": {"$dynamicRef": "#/properties/a"}}, {}, "#/properties/a"),
    ],
)
def test_a_schema_that_leads_back_to_itself_is_found_before_anything_runs(
    properties: dict[str, Any], more: dict[str, Any], way: str
) -> None:
    with pytest.raises(ValueError, match="leads back to itself") as caught:
        schema_of(properties, **more)
    assert way in str(caught.value)


def test_schemas_of_trees_are_read_and_checked() -> None:
    """A reference that goes down into the value ends with the value."""
    tree = schema_of({"children": {"type": "array", "items": {"$ref": "#"}}, "n": {"type": "integer"}})
    value: dict[str, Any] = {"n": 1}
    for _ in range(20):
        value = {"n": 2, "children": [value]}
    assert parse_answer(json.dumps(value), tree.text) == value
    with pytest.raises(BadResponse, match=r"children\[0\]\.n"):
        parse_answer(json.dumps({"children": [{"n": "x"}]}), tree.text)


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ({"a": {"$ref": "https://example.org/schema.json"}}, "which is not in it"),
        ({"a": {"$ref": "#/$defs/none"}}, "which is not in it"),
        ({"a": {"pattern": "("}}, "unclosed group"),
        ({"a": {"pattern": "(?=a)b"}}, "look-ahead"),
        ({"a": {"pattern": r"(a)\1"}}, "backreferences are not supported"),
        ({"a": {"pattern": "((a{99}){99}){99}"}}, "size limit"),
        ({"a": {"type": "object", "patternProperties": {"[": {}}}}, "unclosed character class"),
        ({"a": {"patternProperties": {"a": {}}, "unevaluatedProperties": False}}, "write additionalProperties"),
    ],
)
def test_what_cannot_be_checked_is_told_before_anything_runs(schema: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        schema_of(schema)


def test_values_in_a_schema_are_no_schemas_but_a_property_of_such_a_name_is_one() -> None:
    value = {"pattern": "(", "$ref": "#/nowhere"}
    schema_of({"a": {"const": value}, "b": {"enum": [value]}, "c": {"default": value}, "d": {"examples": [value]}})
    with pytest.raises(ValueError, match="unclosed group"):
        schema_of({"default": {"pattern": "("}})


def test_a_schema_that_is_nested_too_deeply_is_told() -> None:
    inner: Any = {}
    for _ in range(5000):
        inner = {"properties": {"a": inner}}
    with pytest.raises(ValueError, match="nested too deeply"):
        schema_of({"a": inner})
    names = {f"a{number}": {"$ref": f"#/$defs/a{number + 1}"} for number in range(300)}
    with pytest.raises(ValueError, match="more than 100 schemas to one value"):
        schema_of({"a": {"$ref": "#/$defs/a0"}}, **{"$defs": {**names, "a300": {}}})


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "^(.*a){25}$", r"^(\w+\s?)*$"])
def test_a_pattern_is_matched_in_time_that_grows_with_the_text(pattern: str) -> None:
    """Each of these takes Python's own `re` for ever."""
    schema = schema_of({"k": {"type": "string", "pattern": pattern}, "o": {"patternProperties": {pattern: False}}})
    with pytest.raises(BadResponse, match="does not match") as caught:
        parse_answer(json.dumps({"k": "\n" * 20_000 + "!"}), schema.text)
    assert len(caught.value.what) < 1000
    parse_answer(json.dumps({"o": {"\n" * 20_000 + "!": 1}}), schema.text)
    with contextlib.suppress(BadResponse):
        parse_answer(json.dumps({"k": "a" * 20_000 + "!", "o": {"a" * 20_000 + "!": 1}}), schema.text)


def test_patterns_are_searched_for_as_json_schema_says() -> None:
    schema = schema_of({"k": {"type": "string", "pattern": "b"}}, patternProperties={"^x_": {"type": "integer"}})
    closed = schema_of({"k": {}}, patternProperties={"^x_": {}}, additionalProperties=False)
    assert parse_answer('{"k": "abc", "x_1": 2}', schema.text) == {"k": "abc", "x_1": 2}
    assert parse_answer('{"x_1": 2}', closed.text) == {"x_1": 2}
    for answer, text in (('{"k": "ac"}', schema.text), ('{"x_1": "2"}', schema.text), ('{"y": 2}', closed.text)):
        with pytest.raises(BadResponse, match="does not fit"):
            parse_answer(answer, text)


@pytest.mark.parametrize(
    ("items", "fits"),
    [("[1, 2]", True), ("[1, 1.0]", False), ("[{}, {}]", False), ("[[1], [true]]", True), ('["1", 1]', True)],
)
def test_elements_are_compared_as_json_schema_says(items: str, fits: bool) -> None:
    schema = schema_of({"k": {"type": "array", "uniqueItems": True}})
    if fits:
        parse_answer(f'{{"k": {items}}}', schema.text)
    else:
        with pytest.raises(BadResponse, match="twice"):
            parse_answer(f'{{"k": {items}}}', schema.text)


def test_a_check_that_takes_too_many_steps_fails_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both branches go down at every level: 2**40 ways."""
    monkeypatch.setattr(answer_check, "MAX_CHECK_STEPS", 9_000)
    down = {"properties": {"a": {"$ref": "#/$defs/n"}, "b": {"type": "integer"}}, "required": ["b"]}
    schema = schema_of({"n": {"$ref": "#/$defs/n"}}, **{"$defs": {"n": {"anyOf": [down, down]}}})
    value: Any = {}
    for _ in range(40):
        value = {"a": value}
    with pytest.raises(BadResponse, match="cannot be checked: checking the answer takes more than 9,000 steps"):
        parse_answer(json.dumps({"n": value}), schema.text)
    many = schema_of({"k": {"type": "array", "items": {"enum": [str(number) for number in range(1000)]}}})
    with pytest.raises(BadResponse, match="more than 9,000 steps"):
        parse_answer(json.dumps({"k": ["1"] * 1000}), many.text)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "9" * 5000])
def test_an_answer_with_a_number_that_json_does_not_have_is_refused(number: str) -> None:
    with pytest.raises(BadResponse):
        parse_answer(f'{{"n": {number}}}', schema_of({"n": {"type": "number"}}).text)
