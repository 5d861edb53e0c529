"""The prompt of a body as one text: what its length and its beginning are judged by.

Owns which fields a model reads. Never judges them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def prompt_text(body: Mapping[str, Any]) -> str:
    """Return what a model reads of a body, as one text: tools first, then its messages, or its prompt or input. What is
    wrong in it is left out."""
    parts: list[str] = []
    if tools := body.get("tools"):
        parts.append(f"{tools}\n")
    messages = body.get("messages")
    if not isinstance(messages, list):
        return "".join([*parts, _text(body.get("prompt", body.get("input")))])
    for message in messages:
        if isinstance(message, dict):
            content = message.get("content")
            parts.append(f"{message.get('role')}\n")
            parts.append(content if isinstance(content, str) else _text(content))
            if calls := message.get("tool_calls"):
                parts.append(str(calls))
            parts.append("\n")
    return "".join(parts)


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") if isinstance(part, dict) else part for part in content]
    return "".join([text for text in texts if isinstance(text, str)])
