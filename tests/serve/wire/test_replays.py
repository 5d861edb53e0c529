"""Streams become the answers that they would have been whole, and whole answers streams."""

from __future__ import annotations

from typing import Any

import pytest

from sundog.serve.wire.replays.joining import CompletionJoiner
from sundog.serve.wire.replays.telling import replayed_chunks
from sundog.serve.wire.sse import DONE_EVENT, event_bytes

HEAD = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "system_fingerprint": "f"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
CALLS = [
    {"id": f"call_{number}", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    for number in range(2)
]


def chat(message: dict[str, Any], finish_reason: str = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason, **more}
    return {**HEAD, "choices": [choice], "usage": USAGE}


def text(index: int, said: str) -> dict[str, Any]:
    return {"index": index, "text": said, "logprobs": None, "finish_reason": "length"}


def joined(*chunks: dict[str, Any], size: int = 7) -> dict[str, Any] | None:
    """Join chunks that come in pieces of `size` bytes."""
    sent = b"".join(event_bytes(chunk) for chunk in chunks) + DONE_EVENT
    joiner = CompletionJoiner()
    for start in range(0, len(sent), size):
        joiner.feed(sent[start : start + size])
    return joiner.end()


def delta(said: dict[str, Any], finish_reason: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": said, "finish_reason": finish_reason, **more}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [choice]}


@pytest.mark.parametrize(
    "completion",
    [
        chat({"role": "assistant", "content": "hello \U0001f41d"}),
        chat({"role": "assistant", "content": "", "reasoning": "hm"}, "length", stop_reason=7),
        chat({"role": "assistant", "content": None, "tool_calls": CALLS}, "tool_calls"),
        {**HEAD, "object": "text_completion", "choices": [text(0, "a"), text(1, "b")], "usage": USAGE},
    ],
)
@pytest.mark.parametrize("size", [1, 10**6])
def test_what_is_told_again_is_what_was_said(completion: dict[str, Any], size: int) -> None:
    assert joined(*replayed_chunks(completion, has_usage=True), size=size) == completion


def test_tokens_are_told_to_those_who_ask() -> None:
    chunks = list(replayed_chunks(chat({"role": "assistant", "content": "x"}), has_usage=False))
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)
    *others, last = replayed_chunks(chat({"role": "assistant", "content": "x"}), has_usage=True)
    assert (last["choices"], last["usage"]) == ([], USAGE)
    assert all(chunk["usage"] is None for chunk in others)


def test_pieces_are_joined() -> None:
    begun = {"index": 0, "id": "call_0", "type": "function", "function": {"name": "look", "arguments": '{"a"'}}
    found = joined(
        delta({"role": "assistant", "content": ""}),
        delta({"reasoning_content": "h"}, logprobs={"content": [{"token": "h"}], "refusal": None}),
        delta({"reasoning_content": "m"}, logprobs={"content": [{"token": "m"}], "refusal": None}),
        delta({"content": "\ud83d"}),
        delta({"content": "\udc1d"}),
        delta({"tool_calls": [begun]}),
        delta({"tool_calls": [{"index": 0, "function": {"arguments": ": 1}"}}]}),
        delta({}, "tool_calls", stop_reason=None),
        {**HEAD, "choices": [], "usage": USAGE, "obfuscation": "abc"},
    )
    message = {"role": "assistant", "content": "\U0001f41d", "reasoning_content": "hm", "tool_calls": CALLS[:1]}
    logprobs = {"content": [{"token": "h"}, {"token": "m"}], "refusal": None}
    assert found == chat(message, "tool_calls", logprobs=logprobs, stop_reason=None)


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [delta({"content": "x"})],
        [delta({"content": "x"}, "error")],
        [delta({"content": "x", "audio": {"id": "a"}}), delta({}, "stop")],
        [delta({"content": [{"type": "text", "text": "x"}]}), delta({}, "stop")],
        [delta({"content": "x"}, token_ids=[1]), delta({}, "stop")],
        [delta({"tool_calls": [{"index": 0, "type": "custom", "custom": {"name": "a"}}]}, "tool_calls")],
        [delta({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}, "tool_calls")],
        [delta({"content": "x"}, "stop"), {"error": {"message": "no", "code": 500}}],
        [delta({"content": "x"}, "stop", logprobs={"content": [{"logprob": float("nan")}]})],
        [{**delta({"content": "x"}, "stop"), "choices": [3]}],
        [{**HEAD, "choices": [text(1, "b")]}],
    ],
)
def test_what_nobody_knows_how_to_say_is_no_answer(chunks: list[dict[str, Any]]) -> None:
    assert joined(*chunks) is None
