"""The messages of one call: rendered for its row, and as the call's key and an agent's value hold them.

Owns both forms. What a row's own messages may be is ir.conversations' affair.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from sundog.engines.base import Message, Role
from sundog.engines.tool_use import ToolCall
from sundog.ir.conversations.given import rendered_conversation
from sundog.ir.templates.render import Scope
from sundog.ir.templates.template import Template


def render_messages(conversation: Iterable[tuple[str, Template]], scope: Scope) -> tuple[Message, ...]:
    """Return the messages of one row; OperatorError where they are none that an engine takes."""
    return tuple(
        Message(
            cast(Role, message.role),
            message.content,
            tool_calls=tuple(ToolCall(call.id, call.name, call.arguments) for call in message.tool_calls),
            tool_call_id=message.tool_call_id,
        )
        for message in rendered_conversation(conversation, scope)
    )


def as_json(message: Message) -> dict[str, Any]:
    """Return a message of a conversation as JSON types, as an agent's value has it."""
    written: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        written["tool_calls"] = [
            {"id": call.id, "name": call.name, "arguments": call.arguments} for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        written["tool_call_id"] = message.tool_call_id
    return written


def written_briefly(message: Message) -> Any:
    """Return a message as the key of a call holds it: most are a role and a text."""
    if message.tool_calls or message.tool_call_id is not None:
        return as_json(message)
    return [message.role, message.content]
