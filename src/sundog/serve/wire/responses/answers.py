"""A chat completion becomes an answer of `/v1/responses`.

Owns the response object, its items and its usage. Never keeps one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sundog.errors import SundogError
from sundog.serve.wire.answer_parts import AnswerParts, PartBegun, PartEnded, PartGrown, tokens_told
from sundog.serve.wire.errors import Refusal, refusal_of

ItemStatus = Literal["in_progress", "completed", "incomplete"]

INCOMPLETE_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}

ECHOED: Mapping[str, Any] = {
    "background": False, "instructions": None, "max_output_tokens": None, "max_tool_calls": None, "metadata": {},
    "parallel_tool_calls": True, "previous_response_id": None, "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None}, "safety_identifier": None, "service_tier": None, "store": True,
    "temperature": None, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_logprobs": 0,
    "top_p": None, "truncation": "disabled", "user": None,
}  # fmt: skip
"""Fields of a response that repeat those of its request, with what they are where the request leaves them out."""

ITEM_PREFIXES = {"reasoning": "rs", "text": "msg", "refusal": "msg", "call": "fc"}


def responses_from_chat(
    completion: Mapping[str, Any], body: Mapping[str, Any], id: str, created: int
) -> dict[str, Any]:
    """Return the answer; `created` in Unix seconds. Refusal where the completion is none that can be told."""
    parts = AnswerParts()
    try:
        steps = [*parts.feed(completion), *parts.end()]
    except SundogError as error:
        raise refusal_of(error) from error
    told: list[tuple[PartBegun, list[str]]] = []
    for step in steps:
        match step:
            case PartBegun():
                told.append((step, []))
            case PartGrown(text=text):
                told[-1][1].append(text)
            case PartEnded():
                pass
    # An answer without a word is one all the same: clients look for its message.
    told = told or [(PartBegun("text"), [])]
    output = [
        item_of(begun, "".join(texts), id, number, item_status(parts, is_last=number == len(told) - 1))
        for number, (begun, texts) in enumerate(told)
    ]
    return ended_response(begun_response(body, id, created, parts.model), parts, output)


def begun_response(body: Mapping[str, Any], id: str, created: int, model: str) -> dict[str, Any]:
    """Return the response object of an answer that has not said anything yet."""
    echoed = {key: default if body.get(key) is None else body[key] for key, default in ECHOED.items()}
    return {
        "id": id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": model or str(body.get("model")),
        "output": [],
        "usage": None,
        **echoed,
        "tools": [_echoed_tool(tool) for tool in echoed["tools"]],
    }


def ended_response(response: Mapping[str, Any], parts: AnswerParts, output: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the response object of an answer that has ended."""
    reason = INCOMPLETE_REASONS.get(parts.end_reason or "")
    return {
        **response,
        "model": parts.model or response["model"],
        "status": "completed" if reason is None else "incomplete",
        "incomplete_details": None if reason is None else {"reason": reason},
        "output": output,
        "usage": response_usage(parts.usage),
    }


def failed_response(
    response: Mapping[str, Any], parts: AnswerParts, output: list[dict[str, Any]], refusal: Refusal
) -> dict[str, Any]:
    """Return the response object of an answer that failed, with the items that are whole."""
    code = "rate_limit_exceeded" if refusal.status == 429 else "server_error"
    if refusal.status < 500 and refusal.status != 429:
        code = "invalid_prompt"
    error = {"code": code, "message": refusal.message}
    usage = response_usage(parts.usage)
    return {**response, "status": "failed", "error": error, "output": output, "usage": usage}


def item_of(begun: PartBegun, text: str, id: str, number: int, status: ItemStatus) -> dict[str, Any]:
    """Return item `number` of the response `id`; one in progress has no content yet."""
    item = {"id": f"{ITEM_PREFIXES[begun.kind]}_{id.removeprefix('resp_')}_{number}", "status": status}
    is_begun = status == "in_progress"
    match begun.kind:
        case "call":
            call_id = begun.call_id or f"call_{id.removeprefix('resp_')}_{number}"
            return {"type": "function_call", **item, "call_id": call_id, "name": begun.name, "arguments": text}
        case "reasoning":
            content = [] if is_begun else [content_part(begun, text)]
            return {"type": "reasoning", **item, "summary": [], "content": content, "encrypted_content": None}
    content = [] if is_begun else [content_part(begun, text)]
    return {"type": "message", **item, "role": "assistant", "content": content}


def content_part(begun: PartBegun, text: str) -> dict[str, Any]:
    """Return the part of an item's content that holds its text."""
    match begun.kind:
        case "reasoning":
            return {"type": "reasoning_text", "text": text}
        case "refusal":
            return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def item_status(parts: AnswerParts, *, is_last: bool) -> ItemStatus:
    """Return whether an item that has ended is complete: the last one of an answer that was cut is not."""
    return "incomplete" if is_last and parts.end_reason in INCOMPLETE_REASONS else "completed"


def response_usage(usage: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the counts of an answer, None where the engine told none."""
    if usage is None:
        return None
    num_input, num_output = tokens_told(usage, "prompt_tokens"), tokens_told(usage, "completion_tokens")
    return {
        "input_tokens": num_input,
        "input_tokens_details": {
            "cached_tokens": tokens_told(usage, "prompt_tokens_details", "cached_tokens"),
            "cache_write_tokens": tokens_told(usage, "prompt_tokens_details", "cache_write_tokens"),
        },
        "output_tokens": num_output,
        "output_tokens_details": {
            "reasoning_tokens": tokens_told(usage, "completion_tokens_details", "reasoning_tokens"),
        },
        "total_tokens": num_input + num_output,
    }


def _echoed_tool(tool: Any) -> Any:
    """Return a tool as responses repeat it: a function has all its fields."""
    if not isinstance(tool, dict) or tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, "strict": None, **tool}
