"""A chat completion becomes an answer of `/v1/messages`.

Owns blocks, stop reasons and usage as Anthropic's clients read them. Never reads a request but for what it asked to be
shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic_core

from sundog.engines.openai.protocol.json_text import parse_json
from sundog.errors import SundogError
from sundog.serve.wire.answer_parts import AnswerParts, PartBegun, PartEnded, PartGrown, tokens_told
from sundog.serve.wire.errors import refusal_of
from sundog.serve.wire.messages.requests import shows_thinking

SIGNATURE = "sundog"
"""The signature of a block of thinking, which clients need and send back; nothing here reads it."""

INVALID_JSON = "INVALID_JSON"
"""The field of a call's input that holds arguments which are no JSON object, the name that Anthropic's documentation
has for it."""

STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}


def messages_from_chat(completion: Mapping[str, Any], body: Mapping[str, Any], id: str) -> dict[str, Any]:
    """Return the answer; Refusal where the completion is none that can be told."""
    parts = AnswerParts()
    try:
        steps = [*parts.feed(completion), *parts.end()]
    except SundogError as error:
        raise refusal_of(error) from error
    blocks: list[dict[str, Any]] = []
    begun, texts, has_refused = PartBegun("text"), [""], False
    for step in steps:
        match step:
            case PartBegun():
                begun, texts = step, []
                has_refused = has_refused or step.kind == "refusal"
            case PartGrown(text=text):
                texts.append(text)
            case PartEnded() if begun.kind != "reasoning" or shows_thinking(dict(body)):
                blocks.append(_whole_block(begun, "".join(texts), id, len(blocks), parts.end_reason == "length"))
    answer = empty_answer(id, parts.model or str(body.get("model")), num_prompt_tokens=0)
    answer.update(end_fields(parts, body, has_refused=has_refused))
    return {**answer, "content": blocks, "usage": usage_of(parts.usage)}


def empty_answer(id: str, model: str, *, num_prompt_tokens: int) -> dict[str, Any]:
    """Return an answer that has not said anything yet."""
    usage = {
        "input_tokens": num_prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 0,
    }
    answer = {"id": id, "type": "message", "role": "assistant", "model": model, "content": []}
    return {**answer, "stop_reason": None, "stop_sequence": None, "usage": usage}


def begun_block(begun: PartBegun, id: str, number: int) -> dict[str, Any]:
    """Return the block of a part that begins, which is number `number` in the answer `id`."""
    match begun.kind:
        case "reasoning":
            return {"type": "thinking", "thinking": "", "signature": ""}
        case "call":
            call_id = begun.call_id or f"toolu_{id.removeprefix('msg_')}_{number}"
            return {"type": "tool_use", "id": call_id, "name": begun.name, "input": {}}
    return {"type": "text", "text": ""}


def end_fields(parts: AnswerParts, body: Mapping[str, Any], *, has_refused: bool) -> dict[str, Any]:
    """Return why the answer ended: `stop_reason` and `stop_sequence`."""
    reason = STOP_REASONS[parts.end_reason or "stop"]
    if has_refused and reason == "end_turn":
        reason = "refusal"
    stops = body.get("stop_sequences")
    if reason == "end_turn" and isinstance(stops, list) and parts.stop_text in stops:
        return {"stop_reason": "stop_sequence", "stop_sequence": parts.stop_text}
    return {"stop_reason": reason, "stop_sequence": None}


def usage_of(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the counts of an answer; what came from a cache is not part of `input_tokens`."""
    num_cached = tokens_told(usage, "prompt_tokens_details", "cached_tokens")
    return {
        "input_tokens": max(0, tokens_told(usage, "prompt_tokens") - num_cached),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": num_cached,
        "output_tokens": tokens_told(usage, "completion_tokens"),
    }


def _whole_block(begun: PartBegun, text: str, id: str, number: int, is_cut: bool) -> dict[str, Any]:
    block = begun_block(begun, id, number)
    match begun.kind:
        case "reasoning":
            return {**block, "thinking": text, "signature": SIGNATURE}
        case "call":
            return {**block, "input": _input(text, is_cut=is_cut)}
    return {**block, "text": text}


def _input(arguments: str, *, is_cut: bool) -> dict[str, Any]:
    """Return the input of a call. Arguments that were cut off are read as far as they go, as clients do with a stream;
    those that are no object are a mistake of the model's, which a client can show it."""
    try:
        value = _partial(arguments or "{}") if is_cut else parse_json(arguments.encode())
    except ValueError:
        return {INVALID_JSON: arguments}
    return value if isinstance(value, dict) else {INVALID_JSON: arguments}


def _partial(arguments: str) -> Any:
    try:
        return parse_json(arguments.encode())
    except ValueError:
        return pydantic_core.from_json(arguments, allow_partial=True)
