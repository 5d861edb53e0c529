"""The chunks of an engine become a chat completion, whole or as a stream.

Owns both forms of the answer, and which of its text is a call. Never runs an engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sundog.engines.base import Chunk, FinishReason
from sundog.engines.stop_texts import StopScanner
from sundog.engines.tool_use import ToolCall
from sundog.errors import BadResponse
from sundog.serve.wire.chat.final_text import FinalText
from sundog.serve.wire.chat.request import ChatCall
from sundog.serve.wire.text_pieces import WholePieces
from sundog.serve.wire.usage import AnswerHead, usage_body


class ChatAnswerReader:
    """This class reads the chunks of one answer: its text as it comes, and at its end the calls."""

    def __init__(self, call: ChatCall) -> None:
        self._call = call
        self._final = FinalText() if call.is_constrained else None
        self._stops = StopScanner(call.stop)
        self._is_stopped = False
        self._pieces = WholePieces()
        self.calls: tuple[ToolCall, ...] = ()
        self.finish_reason: FinishReason | None = None

    def feed(self, chunk: Chunk) -> str:
        """Return the text that a chunk adds; after the last one `calls` and `finish_reason` are known. BadResponse for
        an answer that is neither text nor a call."""
        text = self._final_text(chunk.text)
        calls = chunk.tool_calls
        if chunk.finish_reason is None:
            return self._pieces.feed(self._until_stop(text, is_last=False))
        if self._final is not None and not self._is_stopped:
            rest = self._final.end(chunk.finish_reason)
            text += rest.text
            calls = () if rest.call is None else (rest.call,)
        text = self._pieces.feed(self._until_stop(text, is_last=True)) + self._pieces.end()
        self.calls = tuple(self._with_id(number, call) for number, call in enumerate(calls))
        self.finish_reason = self._end_of(chunk.finish_reason)
        return text

    def _final_text(self, piece: str) -> str:
        """Return what a piece adds to the final answer; nothing once a text of `stop` has ended it."""
        if self._is_stopped:
            return ""
        return piece if self._final is None else self._final.feed(piece)

    def _until_stop(self, text: str, *, is_last: bool) -> str:
        """Return what can be sent of the text, none of it after a text that ends the answer."""
        if self._is_stopped:
            return ""
        text, self._is_stopped = self._stops.feed(text, is_last=is_last)
        return text

    def _with_id(self, number: int, call: ToolCall) -> ToolCall:
        """Return a call that has an id: a client names it by that in its next request."""
        return (
            call if call.id else ToolCall(f"call_{self._call.request.request_id}_{number}", call.name, call.arguments)
        )

    def _end_of(self, told: FinishReason) -> FinishReason:
        if not self.calls:
            is_whole = self._is_stopped or (self._final is not None and self._final.is_over)
            return "stop" if told == "tool_calls" or is_whole else told
        if told == "length" and not self._call.is_constrained:
            return told
        return "stop" if self._call.is_tool_named else "tool_calls"


def chat_completion(call: ChatCall, chunks: Iterable[Chunk], head: AnswerHead) -> dict[str, Any]:
    """Return the whole answer; BadResponse where the chunks end before it does, or are none."""
    reader = ChatAnswerReader(call)
    pieces: list[str] = []
    last: Chunk | None = None
    for last in chunks:
        pieces.append(reader.feed(last))
    if last is None or reader.finish_reason is None:
        raise BadResponse("the engine's stream ended before the answer did", retryable=True)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(pieces), "refusal": None}
    if reader.calls:
        message["content"] = message["content"] or None
        message["tool_calls"] = [_call_body(one) for one in reader.calls]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reader.finish_reason}
    body = {**_facts(head, "chat.completion"), "choices": [choice]}
    if last.usage is not None:
        body["usage"] = usage_body(last.usage)
    return body


class ChatStream:
    """This class makes the chunks of one answer, to be sent in their order: `first`, then what `feed` returns."""

    def __init__(self, call: ChatCall, head: AnswerHead) -> None:
        self._call = call
        self._facts = _facts(head, "chat.completion.chunk")
        self._reader = ChatAnswerReader(call)

    def first(self) -> list[dict[str, Any]]:
        """Return the chunks that say who answers."""
        return [self._chunk({"role": "assistant", "content": "", "refusal": None})]

    def keep_alive(self) -> dict[str, Any]:
        """Return a chunk that adds nothing: some clients give up a stream that is silent, and comments are no chunks
        to them."""
        return self._chunk({})

    def feed(self, chunk: Chunk) -> list[dict[str, Any]]:
        """Return the chunks that one of the engine's becomes, those of the end after its last one. BadResponse for an
        answer that is neither text nor a call."""
        text = self._reader.feed(chunk)
        made = [self._chunk({"content": text})] if text else []
        if self._reader.finish_reason is None:
            return made
        for number, call in enumerate(self._reader.calls):
            made.append(self._chunk({"tool_calls": [{"index": number, **_call_body(call)}]}))
        made.append(self._chunk({}, self._reader.finish_reason))
        if self._call.has_usage_chunk:
            usage = None if chunk.usage is None else usage_body(chunk.usage)
            made.append({**self._facts, "choices": [], "usage": usage})
        return made

    def _chunk(self, delta: dict[str, Any], finish_reason: FinishReason | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        told = {"usage": None} if self._call.has_usage_chunk else {}
        return {**self._facts, "choices": [choice], **told}


def _facts(head: AnswerHead, kind: str) -> dict[str, Any]:
    return {"id": head.id, "object": kind, "created": head.created, "model": head.model}


def _call_body(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
