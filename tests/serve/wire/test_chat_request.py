"""Bodies of chats become requests of engines that are no servers, or refusals that name a field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sundog.engines.base import Message
from sundog.engines.message_parts import FilePart, ImagePart, TextPart
from sundog.engines.tool_use import ToolCall
from sundog.serve.wire.chat.abilities import ChatAbilities
from sundog.serve.wire.chat.request import chat_call
from sundog.serve.wire.errors import Refusal
from tests.serve.wire.chats import CITY, CLOCK, CONSTRAINED, NATIVE, PDF, PNG, WEATHER, body, called


def test_a_plain_chat() -> None:
    call = called()
    assert call.request.messages == (Message("user", "hello"),)
    assert call.request.request_id == "r1"
    assert (call.request.max_tokens, call.request.temperature, call.request.seed) == (None, 1.0, None)
    assert (call.request.stop, call.request.json_schema, call.request.tools) == ((), None, ())
    assert [call.is_streamed, call.has_usage_chunk, call.request.needs_first_token, call.is_constrained] == [False] * 4


def test_all_settings() -> None:
    call = called(
        max_tokens=9,
        max_completion_tokens=5,
        temperature=0,
        seed=-3,
        stop=["a", "b"],
        stream=True,
        stream_options={"include_usage": True, "include_obfuscation": False},
    )
    request = call.request
    assert (request.max_tokens, request.temperature, request.seed, request.stop) == (5, 0, -3, ("a", "b"))
    assert call.is_streamed
    assert call.has_usage_chunk
    assert request.needs_first_token


@pytest.mark.parametrize(
    ("abilities", "written", "expected"),
    [(CONSTRAINED, None, 1.0), (NATIVE, None, None), (NATIVE, 0.5, 0.5), (CONSTRAINED, 0, 0)],
)
def test_the_temperature_of_a_request_without_one(abilities: ChatAbilities, written: Any, expected: Any) -> None:
    assert called(abilities, temperature=written).request.temperature == expected


def test_one_stop_text_may_stand_alone() -> None:
    assert called(stop="###").request.stop == ("###",)


@pytest.mark.parametrize(
    "fields",
    [
        {"user": "u", "metadata": {"a": "b"}, "store": True, "service_tier": "flex", "prompt_cache_key": "k"},
        {"safety_identifier": "s", "reasoning_effort": "low", "prediction": {"type": "content", "content": "x"}},
        {"n": 1, "logprobs": False, "top_logprobs": 0, "logit_bias": {}, "frequency_penalty": 0, "presence_penalty": 0},
        {"top_p": 1, "modalities": ["text"], "response_format": {"type": "text"}, "verbosity": "medium"},
        {"temperature": 0, "top_p": 0.9, "top_k": 40, "min_p": 0.1},
        {"session_id": "s", "priority": 3, "nvext": {}, "vllm_xargs": {}, "extra": None},
        {"n": None, "tools": None, "tool_choice": None, "stop": None, "stream": None, "stream_options": None},
        {"tools": [], "tool_choice": "auto"},
    ],
)
def test_fields_that_change_no_answer_are_let_be(fields: dict[str, Any]) -> None:
    plain = called(temperature=fields.get("temperature"))
    assert called(**fields) == plain


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"top_p": 0.9}, "top_p"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"guided_json": {}}, "guided_json"),
        ({"functions": []}, "functions"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 2.0}, "max_tokens"),
        ({"max_completion_tokens": 10**30}, "max_completion_tokens"),
        ({"temperature": 2.5}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a"] * 65}, "stop"),
        ({"stop": [1]}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant", "function_call": {}}]}, "messages[0].function_call"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "1"}]}]}, "messages[0].tool_calls[0].function"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tools": [CLOCK, CLOCK]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "final"}}]}, "tools"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": 3}}}]},
            "tools[0].function.parameters",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": "often"}, "tool_choice"),
        ({"tools": [CLOCK], "tool_choice": {"type": "custom"}}, "tool_choice.type"),
        (
            {"tools": [CLOCK], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
            "tool_choice.function.name",
        ),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_refusals_name_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as caught:
        called(**fields)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_what_an_engine_does_not_do_has_a_code() -> None:
    with pytest.raises(Refusal) as caught:
        called(logprobs=True)
    assert caught.value.code == "unsupported_parameter"


def test_a_body_that_is_no_object() -> None:
    with pytest.raises(Refusal, match="the body must be an object"):
        chat_call([], "r1", CONSTRAINED)  # type: ignore[arg-type]  # what a client may send


def test_messages_of_all_roles() -> None:
    calls = [{"id": "c1", "type": "function", "function": {"name": "clock", "arguments": '{"zone":"UTC"}'}}]
    conversation = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What"}, {"type": "text", "text": "time?"}]},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "noon"}]},
        {"role": "assistant", "content": None, "refusal": "I cannot say."},
    ]
    assert called(NATIVE, messages=conversation).request.messages == (
        Message("system", "Be brief."),
        Message("user", "What\ntime?"),
        Message("assistant", "", tool_calls=(ToolCall("c1", "clock", '{"zone":"UTC"}'),)),
        Message("tool", "noon", tool_call_id="c1"),
        Message("assistant", "I cannot say."),
    )


def test_models_without_tools_read_calls_as_text_even_where_no_tools_are_offered() -> None:
    calls = [{"id": "c1", "function": {"name": "clock", "arguments": {"zone": "UTC"}}}]
    conversation = [
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "noon"},
    ]
    assert called(messages=conversation).request.messages == (
        Message("assistant", '{"tool":"clock","args":{"zone":"UTC"}}'),
        Message("user", "clock returned:\nnoon"),
    )


def test_halves_of_surrogate_pairs_are_replaced() -> None:
    assert called(messages=[{"role": "user", "content": "a\ud800"}]).request.messages[0].content == "a\ufffd"


def test_parts() -> None:
    content = [
        {"type": "text", "text": "Look:"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
        {"type": "image_url", "image_url": "https://example.org/a.png"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
    ]
    (message,) = called(messages=[{"role": "user", "content": content}]).request.messages
    text, picture, address, file = message.parts
    assert message.content == ""
    assert text == TextPart("Look:")
    assert isinstance(picture, ImagePart)
    assert (picture.media_type, picture.size, picture.detail) == ("image/png", (16, 9), "low")
    assert picture.read().startswith(b"\x89PNG")
    assert address == ImagePart(url="https://example.org/a.png")
    assert isinstance(file, FilePart)
    assert (file.name, file.media_type, file.num_bytes) == ("a.pdf", "application/pdf", 16)
    assert file.read() == b"%PDF-1.7 nothing"


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ({"type": "input_audio", "input_audio": {}}, "type"),
        ({"text": "x"}, "type"),
        ({"type": "text"}, "text"),
        ({"type": "image_url", "image_url": {}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "cat.png"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "ftp://example.org/a.png"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,&"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": "https://example.org", "detail": "all"}}, "image_url.detail"),
        ({"type": "file", "file": {"file_id": "file-1"}}, "file.file_id"),
        ({"type": "file", "file": {"file_data": "AAAA"}}, "file.file_data"),
    ],
)
def test_parts_that_are_refused(part: dict[str, Any], place: str) -> None:
    with pytest.raises(Refusal) as caught:
        called(messages=[{"role": "user", "content": [part]}])
    assert caught.value.param == f"messages[0].content[0].{place}"


def test_an_engine_of_texts_refuses_pictures() -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    with pytest.raises(Refusal, match="takes no parts of the type 'image_url'"):
        called(ChatAbilities(), messages=[{"role": "user", "content": [part]}])


def test_native_tools() -> None:
    call = called(NATIVE, tools=[WEATHER, CLOCK], parallel_tool_calls=False, tool_choice="required")
    request = call.request
    assert [(tool.name, tool.description, json.loads(tool.parameters)) for tool in request.tools] == [
        ("weather", "Tell it.", CITY),
        ("clock", "", {"type": "object", "properties": {}}),
    ]
    assert (request.tool_choice, request.has_parallel_calls, request.json_schema) == ("required", False, None)
    assert not call.is_constrained


def test_a_named_tool_is_the_only_one_and_must_be_called() -> None:
    named = {"type": "function", "function": {"name": "clock"}}
    call = called(NATIVE, tools=[WEATHER, CLOCK], tool_choice=named)
    assert [tool.name for tool in call.request.tools] == ["clock"]
    assert (call.request.tool_choice, call.is_tool_named) == ("required", True)


def test_allowed_tools() -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "weather"}}]}
    call = called(NATIVE, tools=[WEATHER, CLOCK], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert [tool.name for tool in call.request.tools] == ["weather"]
    assert (call.request.tool_choice, call.is_tool_named) == ("required", False)


def options_of(schema: str | None) -> list[str]:
    """The tools that an answer of a constrained schema may name."""
    read = json.loads(schema or "{}")
    return [one["properties"]["tool"]["enum"][0] for one in read.get("anyOf", [read])]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("auto", ["weather", "clock", "final"]),
        ("required", ["weather", "clock"]),
        ("none", ["final"]),
        ({"type": "function", "function": {"name": "clock"}}, ["clock"]),
    ],
)
def test_constrained_tools_are_told_and_bound_the_answer(choice: Any, expected: list[str]) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    call = called(messages=messages, tools=[WEATHER, CLOCK], tool_choice=choice)
    assert call.is_constrained
    assert call.request.tools == ()
    assert call.request.messages[0].content.startswith("Be brief.\n\nYou can use these tools:\n\n")
    assert options_of(call.request.json_schema) == expected


def test_the_final_answer_of_constrained_tools_has_the_form_that_is_asked_for() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": CITY}}
    call = called(tools=[WEATHER], response_format=form)
    *_, final = json.loads(call.request.json_schema or "")["anyOf"]
    assert final["properties"]["answer"] == CITY


def test_a_tool_whose_arguments_the_engine_cannot_generate() -> None:
    pattern = {"type": "object", "properties": {"a": {"type": "string", "pattern": "a+"}}}
    tool = {"type": "function", "function": {"name": "a", "parameters": pattern}}
    with pytest.raises(Refusal) as caught:
        called(tools=[CLOCK, tool])
    assert caught.value.param == "tools[1].function.parameters"
    assert "'pattern'" in str(caught.value)
    assert called(NATIVE, tools=[CLOCK, tool]).request.tools[1].name == "a"


def test_a_schema_of_the_answer() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": CITY}}
    assert json.loads(called(response_format=form).request.json_schema or "") == CITY
    assert called(NATIVE, response_format={"type": "json_object"}).request.json_schema == '{"type":"object"}'


def test_a_body_is_not_changed() -> None:
    written = body(tools=[WEATHER], stop=["a"], tool_choice="auto")
    before = json.dumps(written)
    chat_call(written, "r1", CONSTRAINED)
    assert json.dumps(written) == before
