"""The messages of one call: rendered for its row, and as the call's key and an agent's value hold them.

Owns both forms. What a row's own messages may be is ir.conversations' affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from sundog.engines.base import Message, Role
from sundog.engines.message_parts import FilePart, ImagePart, MessagePart, TextPart, UnreadPart
from sundog.engines.tool_use import ToolCall
from sundog.ir.conversations.given import GivenMessage, GivenPart, rendered_conversation
from sundog.ir.conversations.written import FROM, PART_ROLES
from sundog.ir.templates.render import Scope
from sundog.ir.templates.template import Template
from sundog.ir.values.canonical import canonical_json
from sundog.operators.base import HeldTemplate, PayloadForm


def render_messages(conversation: Iterable[tuple[str, Template]], scope: Scope) -> tuple[Message, ...]:
    """Return the messages of one row; OperatorError where they are none that an engine takes."""
    return tuple(map(_message, rendered_conversation(conversation, scope)))


def has_unread_parts(messages: Sequence[Message]) -> bool:
    """Return whether pictures or documents of messages must be looked at before they are sent."""
    return any(isinstance(part, UnreadPart) for message in messages for part in message.parts)


def _message(given: GivenMessage) -> Message:
    calls = tuple(ToolCall(call.id, call.name, call.arguments) for call in given.tool_calls)
    role = cast(Role, given.role)
    if not given.parts:
        return Message(role, given.content, tool_calls=calls, tool_call_id=given.tool_call_id)
    first = (TextPart(given.content),) if given.content else ()
    return Message(role, "", (*first, *map(_part, given.parts)))


def _part(given: GivenPart) -> MessagePart:
    if given.kind == "text":
        return TextPart(given.text)
    return UnreadPart(given.kind, given.text, given.detail)


def payload_form(conversation: Iterable[tuple[str, Template]], options: Mapping[str, Any]) -> PayloadForm:
    """Return the form of payloads with `messages` as `written_briefly` has them. `options` is the same for all rows.

    The number of messages before a list that a template gives is known, and so is their place. Parts of a message are
    left out: a picture is known by what it holds, wherever that came from.
    """
    said = list(conversation)
    roles = [role for role, _ in said if role not in PART_ROLES]
    fixed = {"options": canonical_json(dict(options)).decode("utf-8", "surrogatepass")}
    if FROM not in roles:
        fixed["roles"] = " ".join(roles)
    held: list[HeldTemplate] = []
    num_messages = 0
    for at, (role, template) in enumerate(said):
        if role == FROM:
            break
        if role in PART_ROLES:
            continue
        if at + 1 == len(said) or said[at + 1][0] not in PART_ROLES:
            held.append(HeldTemplate(("messages", num_messages, 1), template, is_text=True))
        num_messages += 1
    return PayloadForm(fixed, tuple(held))


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
    if message.parts:
        return [message.role, [_part_as_json(part) for part in message.parts]]
    if message.tool_calls or message.tool_call_id is not None:
        return as_json(message)
    return [message.role, message.content]


def _part_as_json(part: MessagePart) -> dict[str, Any]:
    """Return a part by what it holds, wherever that came from."""
    match part:
        case TextPart(text=text):
            return {"text": text}
        case UnreadPart(kind=kind, source=source, detail=detail):
            return {kind: source, "detail": detail}
        case ImagePart(sha256=sha256, url=url, detail=detail):
            return {"image": {"url": url} if url else {"sha256": sha256}, "detail": detail}
        case FilePart(sha256=sha256):
            return {"file": {"sha256": sha256}}
