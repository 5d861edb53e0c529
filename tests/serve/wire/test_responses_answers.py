"""Answers of /v1/responses: whole, as a stream, and both alike; the types are those of OpenAI's client."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from pydantic import TypeAdapter

from sundog.serve.wire.errors import Refusal
from sundog.serve.wire.responses.answers import responses_from_chat
from sundog.serve.wire.responses.items import items_of
from sundog.serve.wire.responses.requests import responses_to_chat
from sundog.serve.wire.responses.stream import ResponsesStream
from tests.serve.wire.scripted_chat import begun_call, call, completion, delta, events, finish, kinds, more_call
from tests.serve.wire.test_answer_parts import answers

responses = pytest.importorskip("openai.types.responses", reason="the types of OpenAI's client: the extra `bench`")

TOOL = {"type": "function", "name": "find", "parameters": {"type": "object"}}
BODY = {"model": "m", "input": "hello", "instructions": "be kind", "tools": [TOOL], "metadata": {"a": "b"}}
USAGE = {
    "input_tokens": 30,
    "input_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 0},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 37,
}
RESPONSE: TypeAdapter[Any] = TypeAdapter(responses.Response)
EVENT: TypeAdapter[Any] = TypeAdapter(responses.ResponseStreamEvent)


def whole(chat: dict[str, Any], body: dict[str, Any] = BODY) -> dict[str, Any]:
    answer = responses_from_chat(chat, body, "resp_1", 5)
    RESPONSE.validate_python(answer)
    return answer


def sent(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events of a stream, each of them one that the client knows."""
    stream = ResponsesStream(BODY, "resp_1", 5)
    told = events([one for chunk in chunks for one in stream.feed(chunk)] + stream.end())
    check(told)
    assert told[-1]["response"] == stream.answer
    return told


def check(told: list[dict[str, Any]]) -> None:
    for event in told:
        assert EVENT.validate_python(event).type == event["type"]
    assert [event["sequence_number"] for event in told] == list(range(len(told)))


def test_an_answer_repeats_its_request_and_has_items_and_counts() -> None:
    calls = [call("c1", "find", '{"q":1}'), call("", "find", "")]
    answer = whole(completion("tool_calls", content="I look", reasoning="hm", tool_calls=calls))
    text = {"type": "output_text", "text": "I look", "annotations": [], "logprobs": []}
    done = {"status": "completed"}
    function_call = {"type": "function_call", "name": "find", **done}
    assert answer["output"] == [
        {
            "type": "reasoning",
            "id": "rs_1_0",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "hm"}],
            "encrypted_content": None,
            **done,
        },
        {"type": "message", "id": "msg_1_1", "role": "assistant", "content": [text], **done},
        {"id": "fc_1_2", "call_id": "c1", "arguments": '{"q":1}', **function_call},
        {"id": "fc_1_3", "call_id": "call_1_3", "arguments": "{}", **function_call},
    ]
    assert answer["usage"] == USAGE
    assert answer["tools"] == [{**TOOL, "description": None, "strict": None}]
    told = {key: answer[key] for key in ("id", "object", "created_at", "status", "model", "instructions", "metadata")}
    assert told == {
        "id": "resp_1", "object": "response", "created_at": 5, "status": "completed", "model": "m",
        "instructions": "be kind", "metadata": {"a": "b"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "status", "details", "item"),
    [
        ("stop", "completed", None, "completed"),
        ("length", "incomplete", {"reason": "max_output_tokens"}, "incomplete"),
        ("content_filter", "incomplete", {"reason": "content_filter"}, "incomplete"),
    ],
)
def test_an_answer_that_was_cut_is_incomplete(reason: str, status: str, details: Any, item: str) -> None:
    answer = whole(completion(reason, content="x", reasoning="hm"))
    assert (answer["status"], answer["incomplete_details"]) == (status, details)
    assert [one["status"] for one in answer["output"]] == ["completed", item]
    told = sent([delta(reasoning="hm"), delta(content="x"), *finish(reason)])
    assert told[-1]["type"] == f"response.{status}"
    assert told[-1]["response"] == answer


def test_only_the_last_item_of_an_answer_that_was_cut_is_incomplete() -> None:
    """Both calls are told at the end: the first one never was whole."""
    calls = [call("c1", "find", "{"), call("c2", "find", "{")]
    answer = whole(completion("length", tool_calls=calls))
    assert [one["status"] for one in answer["output"]] == ["completed", "incomplete"]
    told = sent([begun_call(0, "c1", "find", "{"), begun_call(1, "c2", "find", "{"), *finish("length")])
    assert told[-1]["response"] == answer


@pytest.mark.parametrize("message", [{"content": ""}, {"content": None}])
def test_an_answer_without_a_word_is_an_empty_message(message: dict[str, Any]) -> None:
    answer = whole(completion(**message))
    assert [one["content"][0]["text"] for one in answer["output"]] == [""]
    assert sent([delta(**message), *finish()])[-1]["response"] == answer


def test_an_answer_without_counts_has_none() -> None:
    chat = completion(content="x")
    del chat["usage"]
    assert whole(chat)["usage"] is None


def test_a_completion_that_is_no_answer_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        responses_from_chat({"choices": []}, BODY, "resp_1", 5)
    assert caught.value.status == 502


def test_the_events_of_a_stream_and_their_order() -> None:
    chunks = [
        delta(role="assistant", content=""),
        delta(reasoning="hm"),
        delta(content="I "),
        delta(content="look"),
        begun_call(0, "c1", "find"),
        more_call(0, '{"q":'),
        more_call(0, "1}"),
        begun_call(1, "c2", "find", "{}"),
    ]
    told = sent([*chunks, *finish("tool_calls")])
    added, done = "response.output_item.added", "response.output_item.done"
    part, part_done = "response.content_part.added", "response.content_part.done"
    text, thoughts, arguments = "response.output_text", "response.reasoning_text", "response.function_call_arguments"
    assert kinds(told) == [
        *("response.created", "response.in_progress"),
        *(added, part, f"{thoughts}.delta", f"{thoughts}.done", part_done, done),
        *(added, part, f"{text}.delta", f"{text}.delta", f"{text}.done", part_done, done),
        *(added, f"{arguments}.delta", f"{arguments}.delta", f"{arguments}.done", done),
        *(added, f"{arguments}.delta", f"{arguments}.done", done),
        "response.completed",
    ]
    assert [event["output_index"] for event in told[2:-1]] == [0] * 6 + [1] * 7 + [2] * 5 + [3] * 4
    assert told[0]["response"]["status"] == "in_progress"
    assert told[0]["response"]["output"] == []
    assert told[8]["item"] == {
        "type": "message", "id": "msg_1_1", "status": "in_progress", "role": "assistant", "content": [],
    }  # fmt: skip
    assert [told[number]["delta"] for number in (10, 11, 16, 17)] == ["I ", "look", '{"q":', "1}"]
    assert told[12]["text"] == "I look"
    assert told[18]["arguments"] == '{"q":1}'
    assert told[-1]["response"]["output"] == [event["item"] for event in told if event["type"] == done]


def test_a_refusal_has_events_of_its_own() -> None:
    told = sent([delta(refusal="I "), delta(refusal="won't"), *finish()])
    assert [event.get("delta") or event.get("refusal") for event in told[4:7]] == ["I ", "won't", "I won't"]
    assert told[-1]["response"] == whole(completion(refusal="I won't"))


def test_a_stream_that_waits_tells_that_it_is_in_progress() -> None:
    stream = ResponsesStream(BODY, "resp_1", 5)
    told = events([*stream.ping(), *stream.ping(), *stream.feed(delta(role="assistant")), *stream.begin()])
    assert kinds(told) == ["response.created", "response.in_progress", "response.in_progress"]
    check(told)


@pytest.mark.parametrize(
    ("status", "code"), [(503, "server_error"), (429, "rate_limit_exceeded"), (400, "invalid_prompt")]
)
def test_a_failure_is_the_last_event(status: int, code: str) -> None:
    stream = ResponsesStream(BODY, "resp_1", 5)
    told = events([*stream.feed(delta(reasoning="a")), *stream.feed(delta(content="b"))])
    told += events(stream.fail(Refusal(status, "gone")))
    check(told)
    assert told[-1]["type"] == "response.failed"
    answer = told[-1]["response"]
    assert (answer["status"], answer["error"]) == ("failed", {"code": code, "message": "gone"})
    assert [one["type"] for one in answer["output"]] == ["reasoning"]
    assert stream.is_over
    after = [*stream.feed(delta(content="c")), *stream.ping(), *stream.end(), *stream.fail(Refusal(500, "x"))]
    assert after == []


@pytest.mark.parametrize(
    "chunks", [[{"error": {"message": "gone", "code": 503}}], [delta(content="a")], [delta(content=3)]]
)
def test_a_stream_of_an_engine_that_fails_says_so(chunks: list[dict[str, Any]]) -> None:
    told = sent(chunks)
    assert kinds(told)[:2] == ["response.created", "response.in_progress"]
    assert told[-1]["type"] == "response.failed"


@given(answers())
def test_a_stream_makes_the_whole_answer(answer: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    chat, chunks = answer
    assert sent(chunks)[-1]["response"] == whole(chat)


def test_a_request_that_follows_begins_with_the_items_before() -> None:
    first = whole(completion("tool_calls", content="I look", reasoning="hm", tool_calls=[call("c1", "find", "{}")]))
    kept = items_of(BODY, first)
    second_body = {
        "model": "m",
        "input": [
            {"type": "item_reference", "id": "fc_1_2"},
            {"type": "function_call_output", "call_id": "c1", "output": "r"},
        ],
    }
    expected = [
        {"role": "user", "content": "hello"},
        {
            "role": "assistant",
            "content": "I look",
            "reasoning_content": "hm",
            "tool_calls": [call("c1", "find", "{}")],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "r"},
    ]
    assert responses_to_chat(second_body, earlier=kept)["messages"] == expected
    all_kept = items_of(second_body, whole(completion(content="done"), second_body), kept)
    assert "item_reference" not in [item["type"] for item in all_kept]
    third = responses_to_chat({"model": "m", "input": "more"}, earlier=all_kept)["messages"]
    assert third == [*expected, {"role": "assistant", "content": "done"}, {"role": "user", "content": "more"}]
