"""`/v1/completions` of engines that are no servers: the prompt is what a user says.

Owns both directions of this older form. Never runs an engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sundog.engines.base import Chunk, FinishReason, GenerateRequest, Message
from sundog.errors import BadResponse
from sundog.serve.wire.body_fields import Fields, refuse_field, whole_string
from sundog.serve.wire.chat.abilities import ChatAbilities
from sundog.serve.wire.chat.schemas import answer_schema, check_ability
from sundog.serve.wire.settings import read_settings
from sundog.serve.wire.text_pieces import WholePieces
from sundog.serve.wire.usage import AnswerHead, usage_body

DEFAULT_MAX_TOKENS = 16
"""The limit of an answer where a request has none, as OpenAI's interface says."""


@dataclass(frozen=True, slots=True)
class CompletionCall:
    """One call of this form: the engine's request, and how its answer is sent."""

    #: Its priority and `about` are the host's to set.
    request: GenerateRequest
    is_streamed: bool
    #: The stream ends with a chunk that has the tokens.
    has_usage_chunk: bool


def completion_call(body: Mapping[str, Any], request_id: str, abilities: ChatAbilities) -> CompletionCall:
    """Return the call that a body asks for; Refusal where it is wrong, or asks for what the engine cannot do."""
    fields = Fields(body)
    if fields.value("logprobs") is not None:
        refuse_field("this model cannot do 'logprobs': leave it out", "logprobs", "unsupported_parameter")
    settings = read_settings(fields, abilities.default_temperature)
    schema = answer_schema(fields)
    check_ability(schema, abilities.check_schema, "response_format")
    request = GenerateRequest(
        request_id=request_id,
        messages=(Message("user", _prompt(fields.value("prompt"))),),
        max_tokens=DEFAULT_MAX_TOKENS if settings.max_tokens is None else settings.max_tokens,
        temperature=settings.temperature,
        seed=settings.seed,
        stop=settings.stop,
        json_schema=schema,
        needs_first_token=settings.is_streamed,
    )
    return CompletionCall(request, settings.is_streamed, settings.has_usage_chunk)


def _prompt(written: Any) -> str:
    if not isinstance(written, list):
        return whole_string(written, "prompt")
    if any(isinstance(item, int | list) for item in written):
        refuse_field("this model reads prompts as text, not as tokens: send a text", "prompt")
    if len(written) != 1:
        refuse_field(f"'prompt' lists {len(written)} prompts: send one text in each request", "prompt")
    return whole_string(written[0], "prompt[0]")


def text_completion(chunks: Iterable[Chunk], head: AnswerHead) -> dict[str, Any]:
    """Return the whole answer; BadResponse where the chunks end before it does, or are none."""
    pieces = WholePieces()
    texts: list[str] = []
    last: Chunk | None = None
    for last in chunks:
        texts.append(pieces.feed(last.text))
    if last is None or last.finish_reason is None:
        raise BadResponse("the engine's stream ended before the answer did", retryable=True)
    texts.append(pieces.end())
    body = _body(head, "".join(texts), last.finish_reason)
    if last.usage is not None:
        body["usage"] = usage_body(last.usage)
    return body


class CompletionStream:
    """This class makes the chunks of one answer, to be sent in their order."""

    def __init__(self, call: CompletionCall, head: AnswerHead) -> None:
        self._call = call
        self._head = head
        self._pieces = WholePieces()

    def feed(self, chunk: Chunk) -> list[dict[str, Any]]:
        """Return the chunks that one of the engine's becomes, those of the end after its last one."""
        text = self._pieces.feed(chunk.text)
        told = {"usage": None} if self._call.has_usage_chunk else {}
        if chunk.finish_reason is None:
            return [{**_body(self._head, text, None), **told}] if text else []
        made = [{**_body(self._head, text + self._pieces.end(), chunk.finish_reason), **told}]
        if self._call.has_usage_chunk:
            usage = None if chunk.usage is None else usage_body(chunk.usage)
            made.append({**_body(self._head, "", None), "choices": [], "usage": usage})
        return made


def _body(head: AnswerHead, text: str, finish_reason: FinishReason | None) -> dict[str, Any]:
    # A model that calls tools unasked has still said what it says.
    reason = "stop" if finish_reason == "tool_calls" else finish_reason
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
    return {
        "id": head.id,
        "object": "text_completion",
        "created": head.created,
        "model": head.model,
        "choices": [choice],
    }
