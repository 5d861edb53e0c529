"""Messages and tools as a request's body has them.

Owns their form on the wire. Never reads an answer.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from sundog.engines.base import GenerateRequest, Message
from sundog.engines.message_parts import FilePart, ImagePart, MessagePart, TextPart, UnreadPart


def message_body(message: Message) -> dict[str, Any]:
    """Return one message of a conversation."""
    content: Any = [_part_body(part) for part in message.parts] if message.parts else message.content
    body: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        # Some servers refuse an empty text beside calls.
        body["content"] = content or None
        body["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        body["tool_call_id"] = message.tool_call_id
    return body


def tools_body(request: GenerateRequest) -> dict[str, Any]:
    """Return the fields that offer the tools of a request; none where it has none, since servers refuse an empty
    list."""
    if not request.tools:
        return {}
    functions = [
        {"name": tool.name, "description": tool.description, "parameters": json.loads(tool.parameters)}
        for tool in request.tools
    ]
    body: dict[str, Any] = {
        "tools": [{"type": "function", "function": function} for function in functions],
        "tool_choice": request.tool_choice,
    }
    if not request.has_parallel_calls:
        body["parallel_tool_calls"] = False
    return body


def _part_body(part: MessagePart) -> dict[str, Any]:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case UnreadPart():
            raise AssertionError("an engine is given parts that have been read")
        case ImagePart():
            url = part.url or _data_url(part.media_type, part.read())
            detail = {} if part.detail is None else {"detail": part.detail}
            return {"type": "image_url", "image_url": {"url": url, **detail}}
        case FilePart():
            data = _data_url(part.media_type, part.read())
            return {"type": "file", "file": {"filename": part.name, "file_data": data}}


def _data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
