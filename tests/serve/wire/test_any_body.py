"""Any JSON body gives a request or a refusal, and never another exception."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.serve.wire.chat.request import chat_call
from sundog.serve.wire.completions import completion_call
from sundog.serve.wire.embeddings import embed_call
from sundog.serve.wire.errors import Refusal
from tests.serve.wire.chats import CITY, CLOCK, CONSTRAINED, NATIVE, PDF, PNG, WEATHER

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
FULL: dict[str, Any] = {
    "model": "small",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look."},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
            ],
        },
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "clock", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "noon"},
    ],
    "tools": [WEATHER, CLOCK],
    "tool_choice": {"type": "function", "function": {"name": "clock"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": CITY}},
    "prompt": ["Once"],
    "input": ["Once"],
    "encoding_format": "base64",
    "dimensions": 3,
    "stop": ["a"],
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
    "max_tokens": 5,
    "seed": 1,
}
DOORS: dict[str, Callable[[Any], object]] = {
    "constrained": lambda body: chat_call(body, "r1", CONSTRAINED),
    "native": lambda body: chat_call(body, "r1", NATIVE),
    "completions": lambda body: completion_call(body, "r1", CONSTRAINED),
    "embeddings": lambda body: embed_call(body, "r1"),
}


@st.composite
def bodies(draw: st.DrawFn) -> Any:
    """A body in which some values, at any depth, are others."""
    body = copy.deepcopy(FULL)
    for _ in range(draw(st.integers(1, 3))):
        place: Any = body
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and draw(st.booleans()):
                place = place[key]
                continue
            place[key] = draw(JSON)
            break
    return body


@pytest.mark.parametrize("door", DOORS)
@given(body=bodies() | JSON)
def test_any_body_is_a_request_or_a_refusal(door: str, body: Any) -> None:
    outcome(partial(DOORS[door], body))


def outcome(read: Callable[[], object]) -> str:
    """Return what a body comes to; any other exception than a refusal fails the test."""
    try:
        read()
    except Refusal as refusal:
        return json.dumps([str(refusal), refusal.param])
    return "a request"


@pytest.mark.parametrize("door", DOORS)
def test_the_full_body_passes_every_door(door: str) -> None:
    DOORS[door](FULL)


SCHEMA_WORDS = st.sampled_from(
    ["type", "properties", "required", "items", "enum", "const", "anyOf", "allOf", "$ref", "$schema", "minItems",
     "minimum", "maximum", "maxLength", "additionalProperties", "$defs"]
)  # fmt: skip
SCHEMA_VALUES = st.sampled_from(["object", "string", "integer", "array", "#/$defs/a", "#", "a"]) | JSON
SELF = {"type": "object", "properties": {"a": {"$ref": "#"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}}
SCHEMAS = st.recursive(
    SCHEMA_VALUES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(SCHEMA_WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(SCHEMAS | st.builds(dict, st.just(SELF), items=SCHEMA_VALUES), st.booleans())
def test_any_schema_is_taken_or_refused(schema: Any, is_draft_3: bool) -> None:
    if is_draft_3 and isinstance(schema, dict):
        schema = {**schema, "$schema": "http://json-schema.org/draft-03/schema#"}
    tool = {"type": "function", "function": {"name": "a", "parameters": schema}}
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    for fields in ({"tools": [tool]}, {"response_format": form}):
        outcome(partial(DOORS["constrained"], {**FULL, "tool_choice": "auto", **fields}))


@pytest.mark.parametrize("door", DOORS)
def test_a_body_that_is_nested_deeply(door: str) -> None:
    deep: Any = {}
    for _ in range(900):
        deep = {"properties": {"a": deep}, "type": "object"}
    calls = [{"id": "c", "function": {"name": "clock", "arguments": deep}}]
    for fields in (
        {"response_format": {"type": "json_schema", "json_schema": {"schema": deep}}},
        {"tools": [{"type": "function", "function": {"name": "a", "parameters": deep}}]},
        {"messages": [{"role": "assistant", "tool_calls": calls}]},
        {"metadata": deep, "logit_bias": deep},
    ):
        outcome(partial(DOORS[door], {**FULL, "tool_choice": "auto", **fields}))
