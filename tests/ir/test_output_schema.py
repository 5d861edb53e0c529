"""Structured output: the short form, full JSON Schema, and what answers pass."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sundog.errors import BadResponse
from sundog.ir.output_schema import OutputSchema, parse_answer
from sundog.ir.shape import Anything, ListOf, Record, Scalar

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
