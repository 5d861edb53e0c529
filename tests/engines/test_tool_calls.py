"""Calls of tools on the wire: what is sent, and what is made of what servers send, in pieces of any size."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest

from sundog.engines.base import GenerateRequest, Message
from sundog.engines.message_parts import FilePart, ImagePart, TextPart
from sundog.engines.openai.engine import OpenAIEngine
from sundog.engines.openai.options import OpenAIOptions
from sundog.engines.openai.protocol.answers import read_chunks
from sundog.engines.structured.tool_form import constrained_messages, constrained_schema, read_constrained
from sundog.engines.tool_use import ToolCall
from sundog.engines.vllm.engine import VLLMKind, VLLMOptions
from sundog.errors import BadResponse, EngineError
from sundog.secrets import Secrets
from tests.engines.conformance import TOOLS, Answer, collect
from tests.engines.deviations import Bad
from tests.engines.scripted import Scripted, scripted_engine
from tests.engines.server import MODEL, Exchange
from tests.engines.tool_deviations import CALLS, CallDeviation

REQUEST = GenerateRequest("r", (Message("user", "Where is order 7?"),), tools=TOOLS)


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    with scripted_engine() as scripted:
        yield scripted


def read_in_pieces(body: bytes, size: int) -> Answer:
    async def read() -> Answer:
        async def pieces() -> AsyncGenerator[bytes, None]:
            for start in range(0, len(body), size):
                yield body[start : start + size]

        return Answer([chunk async for chunk in read_chunks(pieces(), lambda: 12, takes_calls=True)])

    return asyncio.run(read())


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
@pytest.mark.parametrize("deviation", CALLS, ids=lambda one: one.name)
def test_calls_in_pieces_of_any_size(deviation: CallDeviation, size: int) -> None:
    if isinstance(deviation.expected, Bad):
        with pytest.raises(EngineError) as caught:
            read_in_pieces(deviation.body, size)
        assert deviation.expected.says in str(caught.value)
        assert caught.value.retryable == deviation.expected.retryable
        return
    answer = read_in_pieces(deviation.body, size)
    last = answer.chunks[-1]
    assert [(call.id, call.name, call.arguments) for call in last.tool_calls] == deviation.expected
    assert (answer.text, last.finish_reason) == (deviation.text, deviation.finish_reason)


@pytest.mark.parametrize("is_streamed", [True, False])
def test_tools_and_turns_go_out_as_the_protocol_has_them(scripted: Scripted, is_streamed: bool) -> None:
    asked = (Message("system", "Be brief."), Message("user", "Where is order 7?"))
    made = Message("assistant", "", tool_calls=(ToolCall("call_1_0", "look_up", '{"order":7}'),))
    messages = (*asked, made, Message("tool", "[]", tool_call_id="call_1_0"))
    request = GenerateRequest("r", messages, tools=TOOLS[:1], has_parallel_calls=False, needs_first_token=is_streamed)
    answer = scripted.started.run(collect(scripted.started.engine, request))
    assert [call.name for call in answer.chunks[-1].tool_calls] == ["look_up"]
    sent = scripted.server.exchanges[-1].body
    function = {"name": "look_up", "description": "Look up an order.", "parameters": json.loads(TOOLS[0].parameters)}
    assert sent["tools"] == [{"type": "function", "function": function}]
    assert (sent["tool_choice"], sent["parallel_tool_calls"]) == ("auto", False)
    assert sent["messages"][2:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1_0", "type": "function", "function": {"name": "look_up", "arguments": '{"order":7}'}}
            ],
        },
        {"role": "tool", "content": "[]", "tool_call_id": "call_1_0"},
    ]


@pytest.mark.parametrize("told", [{"tool_calls": "constrained"}, {"api": "completions"}])
def test_a_model_without_tools_is_told_what_a_conversation_used(scripted: Scripted, told: dict[str, Any]) -> None:
    made = Message("assistant", "", tool_calls=(ToolCall("call_1_0", "look_up", '{"order":7}'),))
    messages = (Message("user", "Where is 7?"), made, Message("tool", "gone", tool_call_id="call_1_0"))
    options = OpenAIOptions(model=MODEL, base_url=scripted.server.base_url, **told)
    body = json.loads(OpenAIEngine(options, 0, Secrets({}))._content(GenerateRequest("r", messages)))
    said = ["Where is 7?", '{"tool":"look_up","args":{"order":7}}', "look_up returned:\ngone"]
    if "api" in told:
        assert body["prompt"] == "\n\n".join(said)
    else:
        assert [one["content"] for one in body["messages"]] == said
        assert [one["role"] for one in body["messages"]] == ["user", "assistant", "user"]


def test_parts_go_out_as_the_protocol_has_them(scripted: Scripted) -> None:
    image = ImagePart("ab" * 32, "image/png", detail="low", read=lambda: b"\x89PNG")
    parts = (TextPart("What is it?"), image, ImagePart(url="https://example.org/a.png"))
    parts_of_file = (FilePart("cd" * 32, "application/pdf", "a.pdf", lambda: b"%PDF"),)

    async def answer(exchange: Exchange) -> None:
        body = {"choices": [{"index": 0, "message": {"content": "a cat"}, "finish_reason": "stop"}]}
        await exchange.send(200, json.dumps(body))

    scripted.server.script.append(answer)
    request = GenerateRequest("r", (Message("user", "", (*parts, *parts_of_file)),))
    scripted.started.run(collect(scripted.started.engine, request))
    assert scripted.server.exchanges[-1].body["messages"][0]["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw==", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
    ]


def test_one_picture_under_two_paths_is_one_message() -> None:
    first, second = (ImagePart("ab" * 32, "image/png", read=read) for read in (lambda: b"here", lambda: b"there"))
    assert Message("user", "", (first,)) == Message("user", "", (second,))
    assert "abab" in Message("user", "", (first,)).text


def test_a_server_without_a_tool_parser_says_what_to_do(scripted: Scripted) -> None:
    async def refuse(exchange: Exchange) -> None:
        message = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        await exchange.send(400, json.dumps({"error": {"message": message, "code": 400}}))

    scripted.server.script.append(refuse)
    with pytest.raises(BadResponse) as caught:
        scripted.started.run(collect(scripted.started.engine, REQUEST))
    assert "tool_calls: constrained" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("block", "form"),
    [
        ({}, "constrained"),
        ({"arguments": {"tool-call-parser": "hermes"}}, "native"),
        ({"base_url": "http://127.0.0.1:1/v1"}, "constrained"),
        ({"base_url": "http://127.0.0.1:1/v1", "tool_calls": "native"}, "native"),
    ],
)
def test_vllm_has_tools_where_a_parser_is_named(block: dict[str, object], form: str) -> None:
    assert VLLMKind().tool_form(VLLMOptions.model_validate({"model": "m", **block})) == form


def test_the_constrained_form_begins_as_the_turn_before() -> None:
    asked = (Message("system", "Be brief."), Message("user", "Where is order 7?"))
    made = Message("assistant", "", tool_calls=(ToolCall("call_1_0", "look_up", '{"order":7}'),))
    first = constrained_messages(asked, TOOLS)
    second = constrained_messages((*asked, made, Message("tool", "[]", tool_call_id="call_1_0")), TOOLS)
    assert second[: len(first)] == first
    assert second[2:] == (
        Message("assistant", '{"tool":"look_up","args":{"order":7}}'),
        Message("user", "look_up returned:\n[]"),
    )


@pytest.mark.parametrize(
    ("text", "answer", "call"),
    [
        ('{"tool":"final","answer":"On its way."}', "On its way.", None),
        ('{"tool":"final","answer":{"city":"Bonn"}}', '{"city":"Bonn"}', None),
        ('{"tool":"look_up","args":{"order":7}}', "", ToolCall("", "look_up", '{"order":7}')),
        ('{"tool":"pause"}', "", ToolCall("", "pause", "{}")),
        ("On its way.", "On its way.", None),
        ("[" * 100_000, "[" * 100_000, None),
    ],
)
def test_a_constrained_answer_is_a_call_or_final(text: str, answer: str, call: ToolCall | None) -> None:
    read = read_constrained(text)
    assert (read.text, read.call) == (answer, call)


def test_only_a_choice_that_may_end_has_final() -> None:
    assert '"final"' in constrained_schema(TOOLS, "auto", None)
    assert '"final"' not in constrained_schema(TOOLS, "required", None)
    assert "look_up" not in constrained_schema(TOOLS, "none", None)
