"""Requests to /v1/responses as chat requests, and those that are wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.serve.wire.errors import Refusal
from sundog.serve.wire.responses.requests import responses_to_chat

HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
TOOL = {"type": "function", "name": "find", "description": "finds", "parameters": SCHEMA, "strict": True}
OTHER = {"type": "function", "name": "other"}
NESTED = {
    "type": "function",
    "function": {"name": "find", "description": "finds", "strict": True, "parameters": SCHEMA},
}
NESTED_OTHER = {"type": "function", "function": {"name": "other", "parameters": {"type": "object", "properties": {}}}}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,QQ==", "detail": "low"}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ==", "detail": "low"}}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "input": "hello", **fields}


def said(words: str, kind: str = "output_text") -> dict[str, Any]:
    key = "refusal" if kind == "refusal" else "text"
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": [{"type": kind, key: words}]}


def user(words: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "input_text", "text": words}]}


def called(id: str) -> dict[str, Any]:
    return {"type": "function_call", "id": f"fc_{id}", "call_id": id, "name": "find", "arguments": "{}"}


def output(id: str, value: Any = "r") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": id, "output": value}


def thought(words: str, **fields: Any) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"text": words}], **fields}


def chat_call(id: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "find", "arguments": "{}"}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "what chat has too": (
        {"temperature": 0.5, "top_p": 0.9, "metadata": {"a": "b"}, "user": "u", "prompt_cache_key": "k"},
        {"temperature": 0.5, "top_p": 0.9, "metadata": {"a": "b"}, "user": "u", "prompt_cache_key": "k"},
    ),
    "what an engine may know": ({"priority": 3, "session_id": "s"}, {"priority": 3, "session_id": "s"}),
    "what is the door's": (
        {
            "store": True,
            "background": True,
            "previous_response_id": "resp_1",
            "conversation": "c",
            "include": ["reasoning.encrypted_content"],
            "truncation": "auto",
            "max_tool_calls": 3,
            "top_logprobs": 0,
        },
        {},
    ),
    "limit": ({"max_output_tokens": 9}, {"max_completion_tokens": 9}),
    "effort": ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
    "stream": (
        {"stream": True, "stream_options": {"include_obfuscation": False}},
        {"stream": True},
    ),
    "text": ({"text": {"format": {"type": "text"}, "verbosity": "low"}}, {"verbosity": "low"}),
    "an object": ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
    "a schema": (
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": SCHEMA, "strict": True},
            }
        },
    ),
    "tools": (
        {"tools": [TOOL, OTHER], "tool_choice": "auto", "parallel_tool_calls": False},
        {"tools": [NESTED, NESTED_OTHER], "tool_choice": "auto", "parallel_tool_calls": False},
    ),
    "tools of other types": (
        {"tools": [{"type": "web_search"}, {"type": "custom", "name": "apply_patch"}, TOOL]},
        {"tools": [NESTED]},
    ),
    "no functions": ({"tools": [{"type": "web_search"}], "tool_choice": "auto", "parallel_tool_calls": True}, {}),
    "none": ({"tools": [TOOL], "tool_choice": "none"}, {"tools": [NESTED], "tool_choice": "none"}),
    "required": ({"tools": [TOOL], "tool_choice": "required"}, {"tools": [NESTED], "tool_choice": "required"}),
    "by name": (
        {"tools": [TOOL], "tool_choice": {"type": "function", "name": "find"}},
        {"tools": [NESTED], "tool_choice": {"type": "function", "function": {"name": "find"}}},
    ),
    "some are allowed": (
        {
            "tools": [TOOL, OTHER],
            "tool_choice": {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "other"}, {"type": "web_search"}],
            },
        },
        {"tools": [NESTED_OTHER], "tool_choice": "required"},
    ),
    "null is nothing": ({"tools": None, "tool_choice": None, "text": None, "temperature": None, "stop": None}, {}),
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_have_their_meaning_in_chat(name: str) -> None:
    given, expected = FIELDS[name]
    assert responses_to_chat(body(**given)) == {"model": "m", "messages": HELLO, **expected}


ITEMS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "roles": (
        [{"role": "developer", "content": "d"}, {"role": "system", "content": "s"}, user("u")],
        [{"role": "system", "content": "d"}, {"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
    ),
    "parts": (
        [
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "a"},
                    IMAGE,
                    {"type": "input_file", "file_data": "data:a", "filename": "f"},
                    {"type": "input_file", "file_id": "file-1"},
                    {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
                ],
            }
        ],
        [
            {
                "role": "user",
                "content": [
                    text("a"),
                    IMAGE_PART,
                    {"type": "file", "file": {"file_data": "data:a", "filename": "f"}},
                    {"type": "file", "file": {"file_id": "file-1"}},
                    {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "wav"}},
                ],
            }
        ],
    ),
    "a turn with thinking, text and calls is one message": (
        [user("u"), thought("hm"), said("I look"), called("1"), called("2"), output("1"), output("2", [text("s")])],
        [
            {"role": "user", "content": "u"},
            {
                "role": "assistant",
                "content": "I look",
                "reasoning_content": "hm",
                "tool_calls": [chat_call("1"), chat_call("2")],
            },
            {"role": "tool", "tool_call_id": "1", "content": "r"},
            {"role": "tool", "tool_call_id": "2", "content": "s"},
        ],
    ),
    "calls without text": (
        [called("1"), output("1"), said("a")],
        [
            {"role": "assistant", "content": None, "tool_calls": [chat_call("1")]},
            {"role": "tool", "tool_call_id": "1", "content": "r"},
            {"role": "assistant", "content": "a"},
        ],
    ),
    "thinking between calls": (
        [thought("a"), called("1"), thought("b"), called("2")],
        [
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "a\nb",
                "tool_calls": [chat_call("1"), chat_call("2")],
            }
        ],
    ),
    "two messages of an assistant": (
        [said("a"), said("b", "refusal")],
        [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}],
    ),
    "a summary in place of thoughts": (
        [{"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "s"}]}, said("a")],
        [{"role": "assistant", "content": "a", "reasoning_content": "s"}],
    ),
    "thoughts after which nothing was said": (
        [
            {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "x"},
            thought("hm"),
            user("u"),
            said("a"),
        ],
        [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}],
    ),
    "pictures of results": (
        [called("1"), called("2"), output("1", [IMAGE]), output("2"), said("a")],
        [
            {"role": "assistant", "content": None, "tool_calls": [chat_call("1"), chat_call("2")]},
            {
                "role": "tool",
                "tool_call_id": "1",
                "content": "(what belongs to this result follows in the next message)",
            },
            {"role": "tool", "tool_call_id": "2", "content": "r"},
            {"role": "user", "content": [IMAGE_PART]},
            {"role": "assistant", "content": "a"},
        ],
    ),
}


@pytest.mark.parametrize("name", ITEMS)
def test_items_become_messages(name: str) -> None:
    items, expected = ITEMS[name]
    assert responses_to_chat(body(input=items))["messages"] == expected


def test_instructions_come_first_and_earlier_items_before_the_input() -> None:
    reference = {"type": "item_reference", "id": "fc_1"}
    chat = responses_to_chat(body(instructions="be kind", input=[reference, output("1")]), earlier=[called("1")])
    assert chat["messages"] == [
        {"role": "system", "content": "be kind"},
        {"role": "assistant", "content": None, "tool_calls": [chat_call("1")]},
        {"role": "tool", "tool_call_id": "1", "content": "r"},
    ]
    assert responses_to_chat({"model": "m"}, earlier=[user("u")])["messages"] == [{"role": "user", "content": "u"}]


def message(*parts: Any, role: str = "user") -> dict[str, Any]:
    return body(input=[{"type": "message", "role": role, "content": list(parts)}])


ALLOWED = {"type": "allowed_tools", "mode": "auto"}
WRONG: list[tuple[Any, str]] = [
    ("x", "body"),
    (body(model=None), "model"),
    (body(input=None), "input"),
    (body(input=[]), "input"),
    (body(input=3), "input"),
    (body(input=[thought("hm")]), "input"),
    (body(input=["x"]), "input[0]"),
    (body(input=[{"type": "web_search_call"}]), "input[0].type"),
    (body(input=[{}]), "input[0].type"),
    (body(input=[{"type": "item_reference", "id": "x"}]), "input[0].id"),
    (body(input=[{"role": "tool", "content": "x"}]), "input[0].role"),
    (body(input=[{"role": ["user"], "content": "x"}]), "input[0].role"),
    (body(input=[{"role": "user"}]), "input[0].content"),
    (body(input=[{**called("1"), "call_id": None}]), "input[0].call_id"),
    (body(input=[{**called("1"), "name": ""}]), "input[0].name"),
    (body(input=[{**called("1"), "arguments": {}}]), "input[0].arguments"),
    (body(input=[output("1", None)]), "input[0].output"),
    (body(input=[output("1", [{"type": "x"}])]), "input[0].output[0].type"),
    (body(input=[{"type": "reasoning", "summary": [{}]}]), "input[0].summary[0].text"),
    (message("x"), "input[0].content[0]"),
    (message({"type": "input_text"}), "input[0].content[0].text"),
    (message({"type": "input_image", "file_id": "f"}), "input[0].content[0].image_url"),
    (message({"type": "input_file", "file_url": "http://x"}), "input[0].content[0].file_data"),
    (message(IMAGE, role="assistant"), "input[0].content"),
    (body(instructions=3), "instructions"),
    (body(max_output_tokens=0), "max_output_tokens"),
    (body(metadata=[]), "metadata"),
    (body(stream="yes"), "stream"),
    (body(prompt={"id": "p"}), "prompt"),
    (body(top_logprobs=2), "top_logprobs"),
    (body(reasoning="low"), "reasoning"),
    (body(reasoning={"effort": 1}), "reasoning.effort"),
    (body(text={"format": {"type": "xml"}}), "text.format.type"),
    (body(text={"format": {"type": "json_schema", "schema": {}}}), "text.format.name"),
    (body(text={"format": {"type": "json_schema", "name": "n"}}), "text.format.schema"),
    (body(tools={}), "tools"),
    (body(tools=[3]), "tools[0]"),
    (body(tools=[{"type": "function"}]), "tools[0].name"),
    (body(tools=[{**TOOL, "parameters": []}]), "tools[0].parameters"),
    (body(tools=[TOOL], tool_choice="some"), "tool_choice"),
    (body(tools=[TOOL], tool_choice={"type": "web_search"}), "tool_choice.type"),
    (body(tools=[TOOL], tool_choice={"type": "function", "name": "x"}), "tool_choice"),
    (body(tool_choice="required"), "tool_choice"),
    (body(tools=[TOOL], parallel_tool_calls=1), "parallel_tool_calls"),
    (body(tools=[TOOL], tool_choice={**ALLOWED, "mode": "x"}), "tool_choice.mode"),
    (body(tools=[TOOL], tool_choice=ALLOWED), "tool_choice.tools"),
    (body(tools=[TOOL], tool_choice={**ALLOWED, "tools": [OTHER]}), "tool_choice.tools"),
]


@pytest.mark.parametrize(("given", "param"), WRONG)
def test_what_is_wrong_is_refused_with_its_place(given: Any, param: str) -> None:
    with pytest.raises(Refusal) as caught:
        responses_to_chat(given)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert caught.value.message.startswith(f"{param}: ")


NAMES = """
    model input role user assistant developer
    content type message input_text output_text input_image image_url file_data
    input_file function_call function_call_output call_id name arguments output reasoning summary text instructions
    function tools tool_choice allowed_tools mode auto required parameters format json_schema schema stream id refusal
"""
WORDS = st.sampled_from(NAMES.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | WORDS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.dictionaries(WORDS, JSON, max_size=5), st.lists(JSON, max_size=2))
def test_any_body_is_read_or_refused(anything: Any, fields: dict[str, Any], items: list[Any]) -> None:
    for given_body in (anything, {**body(), **fields}, body(input=items), message(*items)):
        chat, refusal = read(given_body)
        if refusal is not None:
            assert (refusal.status, bool(refusal.param)) == (400, True)
        json.dumps(chat)


def read(given_body: Any) -> tuple[dict[str, Any] | None, Refusal | None]:
    try:
        return responses_to_chat(given_body), None
    except Refusal as refusal:
        return None, refusal
