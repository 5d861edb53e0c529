"""The chunks of engines become chat completions, which the openai client reads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from sundog.engines.base import Chunk, FinishReason
from sundog.engines.tool_use import ToolCall
from sundog.errors import BadResponse
from sundog.serve.wire.chat.answer import ChatStream, chat_completion
from sundog.serve.wire.chat.request import ChatCall
from tests.serve.wire.chats import CLOCK, HEAD, NATIVE, USAGE, WEATHER, as_json, called, in_pieces

PLAIN = called(stream=True, stream_options={"include_usage": True})
TOOLS = called(tools=[WEATHER, CLOCK], stream=True)
NAMED = called(tools=[CLOCK], tool_choice={"type": "function", "function": {"name": "clock"}})
WEATHER_CALL = as_json({"tool": "weather", "args": {"city": "Ulm"}})
SAY = '{"tool":"final","answer":'


def whole(call: ChatCall, text: str, finish_reason: FinishReason = "stop") -> ChatCompletion:
    """The completion of an answer that came in pieces, as the client reads it."""
    return ChatCompletion.model_validate(chat_completion(call, in_pieces(text, finish_reason), HEAD), strict=True)


def streamed(call: ChatCall, chunks: list[Chunk]) -> list[ChatCompletionChunk]:
    """The chunks of an answer, as the client reads them."""
    stream = ChatStream(call, HEAD)
    made = stream.first() + [one for chunk in chunks for one in stream.feed(chunk)]
    return [ChatCompletionChunk.model_validate(one, strict=True) for one in made]


def said(chunks: list[ChatCompletionChunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_a_whole_answer() -> None:
    answer = whole(PLAIN, "It is noon.")
    assert (answer.id, answer.created, answer.model, answer.object) == (HEAD.id, HEAD.created, "small", HEAD_KIND)
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.message.role) == (0, "stop", "assistant")
    assert (choice.message.content, choice.message.tool_calls) == ("It is noon.", None)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (7, 3, 10)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 4


HEAD_KIND = "chat.completion"


def test_a_stream_begins_with_the_role_and_ends_with_the_reason_and_the_usage() -> None:
    first, *texts, last, usage = streamed(PLAIN, list(in_pieces("It is noon.", "length")))
    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert [chunk.choices[0].delta.content for chunk in texts] == ["It ", "is ", "noo", "n."]
    assert last.choices[0].finish_reason == "length"
    assert all(chunk.usage is None for chunk in (first, *texts, last))
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.total_tokens == 10
    assert {chunk.id for chunk in (first, *texts, last, usage)} == {HEAD.id}


def test_usage_is_streamed_only_where_it_is_asked_for() -> None:
    chunks = streamed(called(stream=True), list(in_pieces("noon")))
    assert [len(chunk.choices) for chunk in chunks] == [1] * 4
    assert all(chunk.usage is None for chunk in chunks)


def test_a_chunk_without_text_adds_nothing_and_keeps_a_stream_alive() -> None:
    stream = ChatStream(PLAIN, HEAD)
    assert stream.feed(Chunk("")) == []
    kept = ChatCompletionChunk.model_validate(stream.keep_alive(), strict=True)
    assert (kept.choices[0].delta.content, kept.choices[0].finish_reason) == (None, None)


@pytest.mark.parametrize("chunks", [[], [Chunk("It is")]])
def test_an_answer_without_an_end_is_none(chunks: list[Chunk]) -> None:
    with pytest.raises(BadResponse, match="ended before the answer did"):
        chat_completion(PLAIN, chunks, HEAD)


def test_native_calls() -> None:
    call = called(NATIVE, tools=[WEATHER, CLOCK])
    calls = (ToolCall("c7", "clock", "{}"), ToolCall("", "weather", '{"city":"Ulm"}'))
    chunks = [Chunk("Let me see."), Chunk("", "tool_calls", USAGE, calls)]
    answer = ChatCompletion.model_validate(chat_completion(call, chunks, HEAD), strict=True)
    (choice,) = answer.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me see.")
    assert [one.model_dump() for one in choice.message.tool_calls or ()] == [
        {"id": "c7", "type": "function", "function": {"name": "clock", "arguments": "{}"}},
        {"id": "call_r1_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}},
    ]
    deltas = [one for chunk in streamed(call, chunks) for one in chunk.choices[0].delta.tool_calls or ()]
    assert [(one.index, one.id, one.type) for one in deltas] == [
        (0, "c7", "function"),
        (1, "call_r1_1", "function"),
    ]
    assert deltas[1].function is not None
    assert (deltas[1].function.name, deltas[1].function.arguments) == ("weather", '{"city":"Ulm"}')


def test_native_calls_that_were_cut_off_end_with_length() -> None:
    chunks = [Chunk("", "length", USAGE, (ToolCall("c", "clock", '{"zo'),))]
    answer = chat_completion(called(NATIVE, tools=[CLOCK]), chunks, HEAD)
    assert answer["choices"][0]["finish_reason"] == "length"


def test_a_constrained_call_becomes_a_call() -> None:
    (choice,) = whole(TOOLS, WEATHER_CALL).choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    (made,) = list(choice.message.tool_calls or [])
    assert made.model_dump() == {
        "id": "call_r1_0",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city":"Ulm"}'},
    }


def test_a_constrained_call_is_streamed_whole() -> None:
    chunks = streamed(TOOLS, list(in_pieces(WEATHER_CALL)))
    assert said(chunks) == ""
    deltas = [chunk.choices[0].delta.tool_calls for chunk in chunks]
    assert [len(one or ()) for one in deltas] == [0, 1, 0]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_the_call_of_a_named_tool_ends_with_stop() -> None:
    (choice,) = whole(NAMED, '{"tool":"clock"}').choices
    (made,) = list(choice.message.tool_calls or [])
    assert (choice.finish_reason, made.model_dump()["function"]) == ("stop", {"name": "clock", "arguments": "{}"})


@pytest.mark.parametrize(
    ("text", "finish_reason", "content", "ended"),
    [
        (SAY + '"It is noon."}', "stop", "It is noon.", "stop"),
        (SAY + '""}', "stop", "", "stop"),
        (' {\n "tool" : "final" , "answer" : "a\\n\\"b\\" \\u00e9\\ud83d\\ude00\\/" }', "stop", 'a\n"b" é😀/', "stop"),
        (SAY + '"raw\nline"}', "stop", "raw\nline", "stop"),
        (SAY + '"done"}' + " " * 9, "length", "done", "stop"),
        (SAY + '"It is no', "length", "It is no", "length"),
        (SAY + '"half \\u00', "length", "half ", "length"),
        (SAY + '"half \\ud83d', "length", "half \ufffd", "length"),
        (SAY + '"cut by a stop', "stop", "cut by a stop", "stop"),
        (SAY + '{"city": "Ulm"}}', "stop", '{"city":"Ulm"}', "stop"),
        (SAY + '{"city": "U', "length", '{"city": "U', "length"),
        (SAY, "length", "", "length"),
        ('{"tool":"weather","args":{"ci', "length", "", "length"),
        ('{"to', "length", "", "length"),
        ("", "length", "", "length"),
        ('{"answer":"tells no tool"}', "stop", '{"answer":"tells no tool"}', "stop"),
        ("It is noon, said freely.", "stop", "It is noon, said freely.", "stop"),
        ('{"tool":' + " " * 300 + '"final","answer":"late"}', "stop", "late", "stop"),
    ],
)
def test_final_answers_of_constrained_tools(
    text: str, finish_reason: FinishReason, content: str, ended: FinishReason
) -> None:
    (choice,) = whole(TOOLS, text, finish_reason).choices
    assert (choice.message.content, choice.finish_reason, choice.message.tool_calls) == (content, ended, None)
    for size in (1, 2, 7, 1000):
        chunks = streamed(TOOLS, list(in_pieces(text, finish_reason, size)))
        assert (said(chunks), chunks[-1].choices[0].finish_reason) == (content, ended)


def test_a_final_answer_is_sent_while_it_is_written() -> None:
    stream = ChatStream(TOOLS, HEAD)
    assert stream.feed(Chunk(SAY)) == []
    assert [one["choices"][0]["delta"] for one in stream.feed(Chunk('"It is '))] == [{"content": "It is "}]
    assert [one["choices"][0]["delta"] for one in stream.feed(Chunk('noon."}'))] == [{"content": "noon."}]


@pytest.mark.parametrize(
    ("text", "content", "num_calls"),
    [
        (SAY + '"It is noon. No?"}', "It is ", 0),
        (SAY + '"It is late."}', "It is late.", 0),
        (SAY + '{"noon": 12}}', '{"', 0),
        ("It is noon, said freely.", "It is ", 0),
        ('{"tool":"weather","args":{"city":"noon"}}', "", 1),
        ('{"tool":"clock"}', "", 1),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_stop_ends_the_final_answer_and_never_the_json_around_it(
    text: str, content: str, num_calls: int, size: int
) -> None:
    call = called(tools=[WEATHER, CLOCK], stop=["noon", "tool", "args"])
    assert call.request.stop == ()
    (choice,) = ChatCompletion.model_validate(chat_completion(call, in_pieces(text, "stop", size), HEAD)).choices
    assert (choice.message.content or "", len(choice.message.tool_calls or ())) == (content, num_calls)
    assert choice.finish_reason == ("tool_calls" if num_calls else "stop")


@pytest.mark.parametrize("text", ['{"tool":"weather","args":', '{"tool":7}', SAY + '"a\\x"}'])
def test_broken_answers_of_constrained_tools(text: str) -> None:
    with pytest.raises(BadResponse):
        whole(TOOLS, text)


@given(st.text(st.characters(codec="utf-16")), st.integers(1, 9), st.booleans())
def test_any_final_text_comes_whole(text: str, size: int, is_ascii: bool) -> None:
    import json

    written = json.dumps({"tool": "final", "answer": text}, ensure_ascii=is_ascii)
    chunks = streamed(TOOLS, list(in_pieces(written, "stop", size)))
    assert said(chunks) == text


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=4), min_size=1))
def test_pieces_with_halves_of_pairs_can_always_be_written(pieces: list[str]) -> None:
    chunks: list[Chunk] = [Chunk(piece) for piece in pieces] + [Chunk("", "stop", USAGE)]
    text = said(streamed(PLAIN, chunks))
    assert text == "".join(pieces).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    answer: dict[str, Any] = chat_completion(PLAIN, chunks, HEAD)
    assert answer["choices"][0]["message"]["content"] == text
