"""The messages of a body as an engine takes them.

Owns their roles, and the calls of tools in them. Never judges their order: a model's chat template does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from typing import Any

from sundog.engines.base import Message, Role
from sundog.engines.message_parts import PartKind
from sundog.engines.tool_use import ToolCall
from sundog.serve.wire.body_fields import Fields, refuse_field, whole_string
from sundog.serve.wire.chat.parts import content_parts

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_NO_PARTS: Set[PartKind] = frozenset()


def read_messages(body: Fields, kinds: Set[PartKind]) -> tuple[Message, ...]:
    """Return the messages of a body, at least one. `kinds`: the parts that the engine takes beside text."""
    messages = tuple(_message(message, kinds) for message in body.objects("messages"))
    if not messages:
        refuse_field("'messages' must be a list of at least one message", "messages")
    return messages


def _message(message: Fields, kinds: Set[PartKind]) -> Message:
    role = _ROLES.get(message.needed_text("role"))
    if role is None:
        refuse_field(f"'{message.place('role')}' must be one of {', '.join(_ROLES)}", message.place("role"))
    content, parts = content_parts(message, kinds if role == "user" else _NO_PARTS)
    if role == "tool":
        return Message(role, content, tool_call_id=message.needed_text("tool_call_id"))
    calls = tuple(map(_call, message.objects("tool_calls"))) if role == "assistant" else ()
    if role == "assistant":
        content = content or message.text("refusal") or ""
        if message.value("function_call") is not None:
            refuse_field("calls of functions are written as 'tool_calls'", message.place("function_call"))
    elif message.value("content") is None:
        refuse_field(f"'{message.place('content')}' is missing", message.place("content"))
    return Message(role, content, parts, calls)


def _call(call: Fields) -> ToolCall:
    if call.value("type") not in (None, "function"):
        refuse_field(f"'{call.place('type')}' must be function", call.place("type"))
    function = call.inner("function")
    arguments = _arguments(function.value("arguments"), function.place("arguments"))
    return ToolCall(call.needed_text("id"), function.needed_text("name"), arguments)


def _arguments(written: Any, place: str) -> str:
    """Return a call's arguments as JSON text; some clients write the object that they are."""
    if written is None or written == "":
        return "{}"
    if isinstance(written, dict):
        try:
            written = json.dumps(written, ensure_ascii=False, separators=(",", ":"))
        except RecursionError:
            refuse_field(f"'{place}' is nested too deeply", place)
    return whole_string(written, place)
