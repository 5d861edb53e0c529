"""The smallest answers of a schema: valid, small, and found in bounded time whatever the schema is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sundog.ir.schemas.output_schema import OutputSchema, parse_answer
from sundog.ir.schemas.smallest_answer import MAX_ANSWER_CHARACTERS, smallest_answers


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ({"a": "str", "n": "int", "x": "float", "b": "bool"}, '{"a":"","n":0,"x":0,"b":true}'),
        ({"unit": ["none", "thousand"]}, '{"unit":"none"}'),
        ({"l": "list[str]", "o": {"a": "int"}, "p": [{"a": "int"}]}, '{"l":[],"o":{"a":0},"p":[]}'),
        (
            {"json_schema": {"type": "object", "properties": {"a": {"const": "x"}, "b": {}}, "required": ["a"]}},
            '{"a":"x"}',
        ),
        (
            {
                "json_schema": {
                    "type": "object",
                    "required": ["l", "s"],
                    "properties": {
                        "l": {"type": "array", "minItems": 2, "items": {"$ref": "#/$defs/n"}},
                        "s": {"type": ["string", "null"], "minLength": 3},
                    },
                    "$defs": {"n": {"anyOf": [{"type": "string", "minLength": 9}, {"type": "integer"}]}},
                }
            },
            '{"l":[0,0],"s":null}',
        ),
    ],
)
def test_it_is_valid_and_small(written: Any, text: str) -> None:
    schema = OutputSchema.of(written).text
    found = smallest_answers(schema).text
    assert parse_answer(found, schema) is not None
    # An answer that is equally long is as good.
    assert len(found) == len(text)


def test_options_of_an_enum_have_answers_of_their_own() -> None:
    schema = OutputSchema.of({"facts": {"unit": ["none", "a long one"]}, "n": "int"}).text
    assert dict(smallest_answers(schema).by_option) == {
        ("facts.unit", '"a long one"'): '{"facts":{"unit":"a long one"},"n":0}'
    }


def test_required_fields_need_not_be_described() -> None:
    schema = json.dumps({"type": "object", "required": ["a"]})
    assert smallest_answers(schema).text == '{"a":0}'
    assert not smallest_answers(schema).by_option


def test_a_schema_inside_itself_ends_and_one_that_doubles_stays_small() -> None:
    inside_itself = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    assert smallest_answers(json.dumps(inside_itself)).text.startswith('{"a":')
    level = {"type": "object", "required": ["a", "b"]}
    schema: dict[str, Any] = {**level, "properties": {name: {"$ref": "#/$defs/0"} for name in "ab"}, "$defs": {}}
    for depth in range(40):
        below = {"$ref": f"#/$defs/{depth + 1}"}
        schema["$defs"][str(depth)] = {**level, "properties": {"a": below, "b": below}}
    schema["$defs"]["40"] = {"type": "array", "minItems": 10**9, "items": {"type": "string", "minLength": 10**9}}
    assert len(smallest_answers(json.dumps(schema)).text) <= MAX_ANSWER_CHARACTERS
