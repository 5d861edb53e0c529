"""Schemas whose references are written out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sundog.serve.wire.chat.references import without_references
from sundog.serve.wire.errors import Refusal
from tests.serve.wire.chats import NATIVE, called

STOP = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOUR = {
    "$defs": {"Stop": STOP, "Stops": {"type": "array", "items": {"$ref": "#/$defs/Stop"}}},
    "type": "object",
    "properties": {"stops": {"$ref": "#/$defs/Stops", "description": "in order"}, "$ref": {"type": "string"}},
    "required": ["stops"],
}
WRITTEN = {
    "type": "object",
    "properties": {
        "stops": {"type": "array", "items": STOP, "description": "in order"},
        "$ref": {"type": "string"},
    },
    "required": ["stops"],
}
TOOL = {"type": "function", "function": {"name": "plan", "parameters": TOUR}}


def written(schema: Any) -> Any:
    return json.loads(without_references(json.dumps(schema), "here"))


def test_references_are_written_out() -> None:
    assert written(TOUR) == WRITTEN


def test_a_schema_without_references_is_the_same_text() -> None:
    text = '{ "type": "object" }'
    assert without_references(text, "here") == text


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}},
        {"type": "object", "properties": {"a": {"$ref": "https://example.org/a.json"}}},
        {"type": "object", "properties": {"a": {"enum": [{"$ref": "#"}], "default": {"$ref": "#"}}}},
        {"type": "object", "properties": {"a": {"$ref": "#/properties/b", "maxLength": 3}, "b": {"type": "string"}}},
    ],
)
def test_what_is_no_reference_that_can_be_followed_stays(schema: Any) -> None:
    assert written(schema) == schema


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "object", "properties": {"a": {"$ref": "#"}}}, "refers to itself by #"),
        ({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "items": {"$ref": "#/$defs/a"}}, "refers to itself"),
        (
            {
                "$defs": {"d0": {"type": "string"}}
                | {f"d{n + 1}": {"anyOf": [{"$ref": f"#/$defs/d{n}"}] * 2} for n in range(20)},
                "anyOf": [{"$ref": "#/$defs/d20"}],
            },
            "more than 10,000 schemas",
        ),
        (
            {
                "$defs": {"d0": {"type": "string"}}
                | {f"d{n + 1}": {"items": {"$ref": f"#/$defs/d{n}"}} for n in range(900)},
                "items": {"$ref": "#/$defs/d900"},
            },
            "nested too deeply",
        ),
    ],
)
def test_schemas_that_cannot_be_written_out(schema: Any, says: str) -> None:
    with pytest.raises(Refusal, match=says) as caught:
        written(schema)
    assert caught.value.param == "here"


def test_arguments_of_nested_models_bound_a_constrained_answer() -> None:
    form = {"type": "json_schema", "json_schema": {"schema": TOUR}}
    call = called(tools=[TOOL], response_format=form)
    plan, final = json.loads(call.request.json_schema or "")["anyOf"]
    assert plan["properties"]["args"] == WRITTEN
    assert final["properties"]["answer"] == WRITTEN
    (native,) = called(NATIVE, tools=[TOOL]).request.tools
    assert json.loads(native.parameters) == TOUR


def test_a_property_may_have_the_name_of_a_word_of_schemas() -> None:
    schema = {"$defs": {"a": {"type": "string"}}, "properties": {"default": {"$ref": "#/$defs/a"}}}
    assert written(schema) == {"properties": {"default": {"type": "string"}}}
