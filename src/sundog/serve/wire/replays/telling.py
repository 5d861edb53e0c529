"""A whole answer that is there becomes the chunks of a stream: who answers, all that is said, and how it ends.

Owns these chunks. Never sends any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def replayed_chunks(completion: Mapping[str, Any], *, has_usage: bool) -> Iterator[dict[str, Any]]:
    """Yield the chunks of a chat's completion, or of a completion. `has_usage`: the client wants to hear of tokens."""
    head = {name: value for name, value in completion.items() if name not in ("choices", "usage")}
    choices = completion.get("choices") or ()
    is_chat = any("message" in choice for choice in choices)
    if is_chat:
        head["object"] = "chat.completion.chunk"
    told = {"usage": None} if has_usage else {}
    for choice in choices:
        for piece in _pieces(choice) if is_chat else (choice,):
            yield {**head, "choices": [piece], **told}
    if has_usage:
        yield {**head, "choices": [], "usage": completion.get("usage")}


def _pieces(choice: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the pieces of one choice of a chat."""
    index, message = choice.get("index") or 0, choice.get("message") or {}
    nothing = {"logprobs": None, "finish_reason": None}
    # A message that says nothing but calls has no text, not an empty one.
    beginning = "" if message.get("content") is not None else None
    yield {"index": index, "delta": {"role": message.get("role") or "assistant", "content": beginning}, **nothing}
    said = {name: value for name, value in message.items() if name != "role" and value}
    if calls := said.get("tool_calls"):
        said["tool_calls"] = [{"index": number, **call} for number, call in enumerate(calls)]
    if said:
        yield {"index": index, "delta": said, **nothing, "logprobs": choice.get("logprobs")}
    end = {name: value for name, value in choice.items() if name not in ("index", "message", "logprobs")}
    yield {"index": index, "delta": {}, "logprobs": None, **end}
