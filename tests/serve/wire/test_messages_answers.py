"""Answers of /v1/messages: whole, as a stream, and both alike."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from sundog.serve.wire.errors import Refusal, anthropic_error
from sundog.serve.wire.messages.answers import messages_from_chat
from sundog.serve.wire.messages.stream import MessagesStream
from tests.serve.wire.scripted_chat import begun_call, call, completion, delta, events, finish, kinds, more_call
from tests.serve.wire.test_answer_parts import answers

BODY = {"model": "m", "max_tokens": 9, "messages": [], "thinking": {"type": "adaptive"}}
COUNTS = {
    "input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 20, "output_tokens": 7,
}  # fmt: skip


def sent(chunks: list[dict[str, Any]], body: dict[str, Any] = BODY) -> list[dict[str, Any]]:
    stream = MessagesStream(body, "msg_1", num_prompt_tokens=30)
    return events([one for chunk in chunks for one in stream.feed(chunk)] + stream.end())


def joined(told: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the message that a client makes of a stream."""
    message: dict[str, Any] = told[0]["message"]
    arguments: dict[int, str] = {}
    for event in told[1:]:
        match event["type"]:
            case "content_block_start":
                assert event["index"] == len(message["content"])
                message["content"].append(event["content_block"])
            case "content_block_delta":
                _grow(message["content"][event["index"]], event["delta"], arguments, event["index"])
            case "message_delta":
                message.update(event["delta"])
                message["usage"].update(event["usage"])
    for index, text in arguments.items():
        message["content"][index]["input"] = json.loads(text)
    return message


def _grow(block: dict[str, Any], piece: dict[str, Any], arguments: dict[int, str], index: int) -> None:
    match piece["type"]:
        case "input_json_delta":
            arguments[index] = arguments.get(index, "") + piece["partial_json"]
        case "signature_delta":
            block["signature"] = piece["signature"]
        case kind:
            key = kind.removesuffix("_delta")
            block[key] += piece[key]


def test_an_answer_has_blocks_an_end_and_counts() -> None:
    calls = [call("t1", "find", '{"q":"a"}'), call("", "find", "")]
    answer = messages_from_chat(
        completion("tool_calls", content="I look", reasoning="hm", tool_calls=calls), BODY, "msg_1"
    )
    assert answer == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "sundog"},
            {"type": "text", "text": "I look"},
            {"type": "tool_use", "id": "t1", "name": "find", "input": {"q": "a"}},
            {"type": "tool_use", "id": "toolu_1_3", "name": "find", "input": {}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": COUNTS,
    }


@pytest.mark.parametrize(
    ("chat", "fields", "reason", "sequence"),
    [
        (completion("stop", content="x"), {}, "end_turn", None),
        (completion("length", content="x"), {}, "max_tokens", None),
        (completion("content_filter", content="x"), {}, "refusal", None),
        (completion("stop", refusal="no"), {}, "refusal", None),
        (completion("stop", tool_calls=[call("1", "f", "{}")]), {}, "tool_use", None),
    ],
)
def test_stop_reasons(chat: dict[str, Any], fields: dict[str, Any], reason: str, sequence: str | None) -> None:
    answer = messages_from_chat(chat, {**BODY, **fields}, "msg_1")
    assert (answer["stop_reason"], answer["stop_sequence"]) == (reason, sequence)


@pytest.mark.parametrize(("told", "reason"), [("#", "stop_sequence"), (7, "end_turn"), ("other", "end_turn")])
def test_a_stop_sequence_is_named_where_the_engine_tells(told: Any, reason: str) -> None:
    chat = completion("stop", content="x")
    chat["choices"][0]["stop_reason"] = told
    answer = messages_from_chat(chat, {**BODY, "stop_sequences": ["#"]}, "msg_1")
    assert (answer["stop_reason"], answer["stop_sequence"]) == (reason, "#" if reason == "stop_sequence" else None)


@pytest.mark.parametrize(
    ("reason", "arguments", "expected"),
    [
        ("tool_calls", "{oops", {"INVALID_JSON": "{oops"}),
        ("tool_calls", "[1]", {"INVALID_JSON": "[1]"}),
        ("length", '{"a":1,"b":', {"a": 1}),
        ("length", "", {}),
        ("length", "oops", {"INVALID_JSON": "oops"}),
    ],
)
def test_arguments_that_are_no_object_are_shown(reason: str, arguments: str, expected: dict[str, Any]) -> None:
    answer = messages_from_chat(completion(reason, tool_calls=[call("1", "f", arguments)]), BODY, "msg_1")
    assert answer["content"][0]["input"] == expected


@pytest.mark.parametrize("fields", [{}, {"thinking": {"type": "disabled"}}])
def test_thinking_is_shown_to_whom_asks_for_it(fields: dict[str, Any]) -> None:
    body = {"model": "m", **fields}
    text = {"type": "text", "text": "a"}
    assert messages_from_chat(completion(content="a", reasoning="hm"), body, "msg_1")["content"] == [text]
    told = sent([delta(reasoning="hm"), delta(content="a"), *finish()], body)
    assert joined(told)["content"] == [text]


def test_a_completion_that_is_no_answer_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        messages_from_chat({"choices": []}, BODY, "msg_1")
    assert caught.value.status == 502


def test_the_events_of_a_stream_and_their_order() -> None:
    chunks = [
        delta(role="assistant", content=""),
        delta(reasoning="hm"),
        delta(content="I "),
        delta(content="look"),
        begun_call(0, "t1", "find"),
        more_call(0, '{"q":'),
        more_call(0, '"a"}'),
        begun_call(1, "t2", "find", "{}"),
    ]
    told = sent([*chunks, *finish("tool_calls")])
    start, grow, stop = "content_block_start", "content_block_delta", "content_block_stop"
    assert kinds(told) == [
        "message_start",
        *(start, grow, grow, stop),
        *(start, grow, grow, stop),
        *(start, grow, grow, stop),
        *(start, grow, stop),
        "message_delta",
        "message_stop",
    ]
    assert [event["index"] for event in told[1:-2]] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 3
    assert told[0]["message"]["usage"] == {
        "input_tokens": 30, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0,
    }  # fmt: skip
    assert told[0]["message"]["content"] == []
    assert told[9]["content_block"] == {"type": "tool_use", "id": "t1", "name": "find", "input": {}}
    assert told[10]["delta"] == {"type": "input_json_delta", "partial_json": '{"q":'}
    assert told[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert told[-2]["usage"] == COUNTS


def test_nothing_comes_before_the_message_and_pings_may_come_after_it() -> None:
    stream = MessagesStream(BODY, "msg_1")
    told = events([*stream.ping(), *stream.feed(delta(role="assistant")), *stream.ping(), *stream.begin()])
    assert kinds(told) == ["message_start", "ping", "ping"]


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_failure_is_the_last_event(has_begun: bool) -> None:
    stream = MessagesStream(BODY, "msg_1")
    before = stream.feed(delta(content="a")) if has_begun else []
    refusal = Refusal(503, "gone", code="overloaded")
    told = events([*before, *stream.fail(refusal)])
    assert told[-1] == anthropic_error(refusal)
    assert len(told) == (4 if has_begun else 1)
    assert stream.is_over
    assert [*stream.feed(delta(content="b")), *stream.ping(), *stream.end(), *stream.fail(refusal)] == []


@pytest.mark.parametrize(
    ("chunks", "kind"),
    [
        ([delta(content="a"), {"error": {"message": "gone", "code": 503}}], "overloaded_error"),
        ([delta(content="a")], "api_error"),
        ([delta(content=3)], "api_error"),
    ],
)
def test_a_stream_of_an_engine_that_fails_ends_with_an_error(chunks: list[dict[str, Any]], kind: str) -> None:
    told = sent(chunks)
    assert told[-1]["type"] == "error"
    assert told[-1]["error"]["type"] == kind


@given(answers())
def test_a_stream_makes_the_whole_answer(answer: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    whole, chunks = answer
    assert joined(sent(chunks)) == messages_from_chat(whole, BODY, "msg_1")
