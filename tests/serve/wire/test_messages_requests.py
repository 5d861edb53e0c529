"""Requests to /v1/messages as chat requests, and those that are wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.serve.wire.errors import Refusal
from sundog.serve.wire.messages.requests import messages_to_chat

HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}
TOOL = {"name": "find", "description": "finds", "input_schema": SCHEMA}
NESTED = {"type": "function", "function": {"name": "find", "description": "finds", "parameters": SCHEMA}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QQ=="}}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}}


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": HELLO, **fields}


def use(id: str, **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": "find", "input": given}


def result(id: str, content: Any = None, **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **fields}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def document(**source: Any) -> dict[str, Any]:
    return {"type": "document", "title": "t", "source": source}


FIELDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sampling": ({"temperature": 0.5, "top_p": 0.9, "top_k": 4}, {"temperature": 0.5, "top_p": 0.9, "top_k": 4}),
    "stops": ({"stop_sequences": ["a"]}, {"stop": ["a"]}),
    "no stops": ({"stop_sequences": []}, {}),
    "user": ({"metadata": {"user_id": "u"}}, {"user": "u"}),
    "stream": ({"stream": True}, {"stream": True}),
    "no stream": ({"stream": False}, {}),
    "tools": ({"tools": [TOOL]}, {"tools": [NESTED]}),
    "tools of a server": ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, {}),
    "no tools": ({"tools": [], "tool_choice": {"type": "auto"}}, {}),
    "auto": ({"tools": [TOOL], "tool_choice": {"type": "auto"}}, {"tools": [NESTED], "tool_choice": "auto"}),
    "any": ({"tools": [TOOL], "tool_choice": {"type": "any"}}, {"tools": [NESTED], "tool_choice": "required"}),
    "none": ({"tools": [TOOL], "tool_choice": {"type": "none"}}, {"tools": [NESTED], "tool_choice": "none"}),
    "one tool, one call": (
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "find", "disable_parallel_tool_use": True}},
        {
            "tools": [NESTED],
            "tool_choice": {"type": "function", "function": {"name": "find"}},
            "parallel_tool_calls": False,
        },
    ),
    "effort and form": (
        {"output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}},
        {
            "reasoning_effort": "low",
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
            },
        },
    ),
    "what is not known": (
        {"betas": ["b"], "context_management": {}, "container": "c", "anthropic_beta": 3, "service_tier": "auto"},
        {},
    ),
}


@pytest.mark.parametrize("name", FIELDS)
def test_fields_have_their_meaning_in_chat(name: str) -> None:
    given, expected = FIELDS[name]
    assert messages_to_chat(body(**given)) == {
        "model": "m", "messages": HELLO, "max_completion_tokens": 9, **expected,
    }  # fmt: skip


TURNS: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "text in blocks": ([{"role": "user", "content": [text("a")]}], [{"role": "user", "content": "a"}]),
    "several texts": (
        [{"role": "user", "content": [text("a"), text("b")]}],
        [{"role": "user", "content": [text("a"), text("b")]}],
    ),
    "a picture": (
        [{"role": "user", "content": [{**IMAGE, "cache_control": {}}, text("a")]}],
        [{"role": "user", "content": [IMAGE_PART, text("a")]}],
    ),
    "a picture by its address": (
        [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://x"}}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}],
    ),
    "documents": (
        [
            {
                "role": "user",
                "content": [
                    document(type="text", media_type="text/plain", data="d"),
                    document(type="base64", media_type="application/pdf", data="QQ=="),
                    document(type="content", content=[text("c"), IMAGE]),
                    document(type="file", file_id="f"),
                    {"type": "search_result", "title": "t", "source": "s", "content": [text("a"), text("b")]},
                ],
            }
        ],
        [
            {
                "role": "user",
                "content": [
                    text("t\nd"),
                    {"type": "file", "file": {"file_data": "data:application/pdf;base64,QQ==", "filename": "t"}},
                    text("t"),
                    text("c"),
                    IMAGE_PART,
                    {"type": "file", "file": {"file_id": "f"}},
                    text("t\ns\na\nb"),
                ],
            }
        ],
    ),
    "calls and results": (
        [
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "redacted_thinking", "data": "x"},
                    text("I look"),
                    use("1", q="ü"),
                    use("2"),
                ],
            },
            {
                "role": "user",
                "content": [text("so?"), result("1", "r1"), result("2", [text("a"), text("b")], is_error=True)],
            },
        ],
        [
            {
                "role": "assistant",
                "content": "I look",
                "reasoning_content": "hm",
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "find", "arguments": '{"q": "ü"}'}},
                    {"id": "2", "type": "function", "function": {"name": "find", "arguments": "{}"}},
                ],
            },
            {"role": "tool", "tool_call_id": "1", "content": "r1"},
            {"role": "tool", "tool_call_id": "2", "content": "Error: a\nb"},
            {"role": "user", "content": "so?"},
        ],
    ),
    "turns of an assistant that follow each other": (
        [{"role": "assistant", "content": content} for content in ("a", [use("1")], "b")],
        [
            {
                "role": "assistant",
                "content": "a",
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "find", "arguments": "{}"}}],
            },
            {"role": "assistant", "content": "b"},
        ],
    ),
    "pictures of results": (
        [{"role": "user", "content": [result("1", [IMAGE]), result("2"), text("so?")]}],
        [
            {
                "role": "tool",
                "tool_call_id": "1",
                "content": "(what belongs to this result follows in the next message)",
            },
            {"role": "tool", "tool_call_id": "2", "content": ""},
            {"role": "user", "content": [IMAGE_PART, text("so?")]},
        ],
    ),
    "pictures of results before an answer": (
        [{"role": "user", "content": [result("1", [text("a"), IMAGE])]}, {"role": "assistant", "content": "b"}],
        [
            {"role": "tool", "tool_call_id": "1", "content": "a"},
            {"role": "user", "content": [IMAGE_PART]},
            {"role": "assistant", "content": "b"},
        ],
    ),
    "results of a server's tools": (
        [
            {
                "role": "assistant",
                "content": [{"type": "server_tool_use"}, {"type": "web_search_tool_result"}, text("a")],
            }
        ],
        [{"role": "assistant", "content": "a"}],
    ),
}


@pytest.mark.parametrize("name", TURNS)
def test_turns_become_messages(name: str) -> None:
    turns, expected = TURNS[name]
    assert messages_to_chat(body(messages=turns))["messages"] == expected


HEADER = "x-anthropic-billing-header: cc_version=2; cch=1f3;"


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("be kind", "be kind"),
        ([text("a"), text("b")], "a\n\nb"),
        ([text(HEADER), text("be kind")], "be kind"),
        (f"{HEADER}\n\nbe kind", "be kind"),
        ([text(f"{HEADER}\nbe kind")], "be kind"),
    ],
)
def test_the_system_prompt_loses_the_line_that_is_new_each_time(system: Any, expected: str) -> None:
    assert messages_to_chat(body(system=system))["messages"] == [{"role": "system", "content": expected}, *HELLO]


@pytest.mark.parametrize("system", [None, "", [], HEADER])
def test_an_empty_system_prompt_is_none(system: Any) -> None:
    assert messages_to_chat(body(system=system))["messages"] == HELLO


def test_a_count_of_tokens_needs_no_limit() -> None:
    given = body()
    del given["max_tokens"]
    assert messages_to_chat(given, needs_max_tokens=False) == {"model": "m", "messages": HELLO}


def user(*blocks: Any) -> dict[str, Any]:
    return body(messages=[{"role": "user", "content": list(blocks)}])


def assistant(*blocks: Any) -> dict[str, Any]:
    return body(messages=[{"role": "assistant", "content": list(blocks)}])


DEEP: Any = json.loads('{"a":' * 600 + "1" + "}" * 600)
WRONG: list[tuple[Any, str]] = [
    ([], "body"),
    (body(model=None), "model"),
    (body(model=""), "model"),
    (body(max_tokens=None), "max_tokens"),
    (body(max_tokens=0), "max_tokens"),
    (body(max_tokens=True), "max_tokens"),
    (body(messages=None), "messages"),
    (body(messages=[]), "messages"),
    (body(messages=["x"]), "messages[0]"),
    (body(messages=[{"role": "tool", "content": "x"}]), "messages[0].role"),
    (body(messages=[{"role": "user"}]), "messages[0].content"),
    (body(system=3), "system"),
    (body(system=[{"type": "text"}]), "system[0].text"),
    (body(stop_sequences=[1]), "stop_sequences[0]"),
    (body(metadata={"user_id": 1}), "metadata.user_id"),
    (body(stream=1), "stream"),
    (body(tools=[{"name": "x"}]), "tools[0].input_schema"),
    (body(tools=[{"input_schema": {}}]), "tools[0].name"),
    (body(tools=[TOOL], tool_choice={"type": "some"}), "tool_choice.type"),
    (body(tools=[TOOL], tool_choice={"type": ["some"]}), "tool_choice.type"),
    (body(tools=[TOOL], tool_choice={"type": "tool"}), "tool_choice.name"),
    (body(tools=[TOOL], tool_choice={"type": "tool", "name": "x"}), "tool_choice"),
    (body(tool_choice={"type": "any"}), "tool_choice"),
    (body(output_config={"format": {"type": "x"}}), "output_config.format.type"),
    (body(output_format={"type": "json_schema"}), "output_format.schema"),
    (user("x"), "messages[0].content[0]"),
    (user({"type": "text"}), "messages[0].content[0].text"),
    (user({"type": "tool_use"}), "messages[0].content[0].type"),
    (user({"type": DEEP}), "messages[0].content[0].type"),
    (user(result("")), "messages[0].content[0].tool_use_id"),
    (user(result("1", [{"type": "x"}])), "messages[0].content[0].content[0].type"),
    (user({"type": "image", "source": {"type": "file"}}), "messages[0].content[0].source.type"),
    (user(document(type="url", url="http://x")), "messages[0].content[0].source.type"),
    (
        user(document(type="content", content=[document(type="text", data="x")])),
        "messages[0].content[0].source.content[0].type",
    ),
    (assistant(use("")), "messages[0].content[0].id"),
    (assistant({**use("1"), "input": "{}"}), "messages[0].content[0].input"),
    (assistant(IMAGE), "messages[0].content[0].type"),
]


@pytest.mark.parametrize(("given", "param"), WRONG)
def test_what_is_wrong_is_refused_with_its_place(given: Any, param: str) -> None:
    with pytest.raises(Refusal) as caught:
        messages_to_chat(given)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert caught.value.message.startswith(f"{param}: ")


NAMES = """
    model messages role user assistant system content type text image source base64 url data name input id tool_use
    tool_result tools tool_choice input_schema max_tokens thinking document auto any tool none is_error stream
    stop_sequences metadata user_id output_config format tool_use_id
"""
WORDS = st.sampled_from(NAMES.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | WORDS | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.dictionaries(WORDS, JSON, max_size=5), st.lists(JSON, max_size=2), st.booleans())
def test_any_body_is_read_or_refused(anything: Any, fields: dict[str, Any], content: list[Any], is_user: bool) -> None:
    role = "user" if is_user else "assistant"
    for given_body in (anything, {**body(), **fields}, body(messages=[{"role": role, "content": content}])):
        chat, refusal = read(given_body)
        if refusal is not None:
            assert (refusal.status, bool(refusal.param)) == (400, True)
        json.dumps(chat)


def read(given_body: Any) -> tuple[dict[str, Any] | None, Refusal | None]:
    try:
        return messages_to_chat(given_body), None
    except Refusal as refusal:
        return None, refusal
