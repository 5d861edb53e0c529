"""The prompt of a body as one text: what its length and its beginning are judged by.

Owns which fields a model reads. Never judges them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def prompt_text(body: Mapping[str, Any]) -> str:
    """Return what a model reads of a body, as one text: tools first, then its messages, or its prompt or input. What is
    wrong in it is left out."""
    return "".join(_parts(body))


def _parts(body: Mapping[str, Any]) -> Iterator[str]:
    if tools := body.get("tools"):
        yield f"{tools}\n"
    messages = body.get("messages")
    if not isinstance(messages, list):
        yield from _texts(body.get("prompt", body.get("input")))
        return
    for message in messages:
        if isinstance(message, dict):
            yield f"{message.get('role')}\n"
            yield from _texts(message.get("content"))
            if calls := message.get("tool_calls"):
                yield str(calls)
            yield "\n"


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            text = part.get("text") if isinstance(part, dict) else part
            if isinstance(text, str):
                yield text
