"""The items of `/v1/responses`, as the messages of chat.

Owns the kinds of items and of their content. Never keeps an item: which ones come before a request is told by whoever
keeps them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sundog.serve.wire.conversation import ChatConversation, text_part
from sundog.serve.wire.errors import wrong_request
from sundog.serve.wire.fields import list_at, object_at, optional, shown_field, text_at, word_at

ROLES = {"user": "user", "system": "system", "developer": "system", "assistant": "assistant"}
"""The roles of messages, and those that templates of models know."""

KINDS = "message, function_call, function_call_output, reasoning and item_reference"


def input_items(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the items of a request's input; text alone is one message of the user."""
    given = body.get("input")
    if given is None:
        return []
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    return [object_at(item, f"input[{number}]") for number, item in enumerate(list_at(given, "input"))]


def items_of(
    body: Mapping[str, Any], answer: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """Return the items that a request which follows `answer` begins with: those before this request, its own, and the
    answer's. Instructions are no items: they hold for one request."""
    return [dict(item) for item in (*earlier, *input_items(body), *answer["output"]) if not _is_reference(item)]


def add_items(
    conversation: ChatConversation, items: Sequence[Mapping[str, Any]], param: str, known_ids: frozenset[str]
) -> None:
    """Add the messages that `items` are; a refusal names the place of an item below `param`. `known_ids`: those of
    earlier items, which a reference may name."""
    for number, item in enumerate(items):
        _add_item(conversation, item, f"{param}[{number}]", known_ids)


def _is_reference(item: Mapping[str, Any]) -> bool:
    return item.get("type") == "item_reference"


def _add_item(conversation: ChatConversation, item: Mapping[str, Any], place: str, known_ids: frozenset[str]) -> None:
    match item.get("type"):
        case "message":
            _add_message(conversation, item, place)
        case None if "role" in item:
            _add_message(conversation, item, place)
        case "function_call":
            name = word_at(item.get("name"), f"{place}.name")
            arguments = text_at(item.get("arguments"), f"{place}.arguments")
            conversation.call(_call_id(item, place), name, arguments)
        case "function_call_output":
            parts = item_parts(item.get("output"), f"{place}.output")
            conversation.result(_call_id(item, place), parts)
        case "reasoning":
            conversation.think(_thoughts(item, place))
        case "item_reference":
            if (id := word_at(item.get("id"), f"{place}.id")) not in known_ids:
                hint = "send the item itself, or the previous_response_id of an answer that was stored"
                raise wrong_request(f"{place}.id", f"the item {shown_field(id)} is not known here", hint=hint)
        case kind:
            what = f"an item of the type {shown_field(kind)} cannot be given to a model"
            raise wrong_request(f"{place}.type", what, hint=f"items are {KINDS}")


def _call_id(item: Mapping[str, Any], place: str) -> str:
    return word_at(item.get("call_id"), f"{place}.call_id")


def _add_message(conversation: ChatConversation, item: Mapping[str, Any], place: str) -> None:
    role = item.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise wrong_request(f"{place}.role", f"it has to be one of {', '.join(ROLES)}, not {shown_field(role)}")
    parts = item_parts(item.get("content"), f"{place}.content")
    if role != "assistant":
        conversation.add(ROLES[role], parts)
        return
    odd = next((part["type"] for part in parts if part["type"] != "text"), None)
    if odd is not None:
        raise wrong_request(f"{place}.content", f"the message of an assistant holds text, and no {odd}")
    conversation.say("".join(part["text"] for part in parts))


def item_parts(value: Any, param: str) -> list[dict[str, Any]]:
    """Return the parts of a content, which may also be text alone."""
    if isinstance(value, str):
        return [text_part(value)]
    places = ((f"{param}[{number}]", part) for number, part in enumerate(list_at(value, param)))
    return [_part(object_at(part, place), place) for place, part in places]


def _part(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return text_part(text_at(part.get("text"), f"{place}.text"))
        case "refusal":
            return text_part(text_at(part.get("refusal"), f"{place}.refusal"))
        case "input_image":
            return _image(part, place)
        case "input_file":
            return _file(part, place)
        case "input_audio":
            audio = object_at(part.get("input_audio"), f"{place}.input_audio")
            return {"type": "input_audio", "input_audio": audio}
        case kind:
            raise wrong_request(f"{place}.type", f"a part of the type {shown_field(kind)} is not known here")


def _image(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    url = optional(word_at, part.get("image_url"), f"{place}.image_url")
    if url is None:
        hint = "send an address or a data URL as image_url"
        raise wrong_request(f"{place}.image_url", "it is missing, and a picture from file_id cannot be had", hint=hint)
    image = {"url": url}
    if (detail := optional(word_at, part.get("detail"), f"{place}.detail")) is not None:
        image["detail"] = detail
    return {"type": "image_url", "image_url": image}


def _file(part: Mapping[str, Any], place: str) -> dict[str, Any]:
    names = ("file_data", "file_id", "filename")
    read = {name: optional(word_at, part.get(name), f"{place}.{name}") for name in names}
    found = {name: value for name, value in read.items() if value is not None}
    if "file_data" not in found and "file_id" not in found:
        hint = "send file_data or file_id: nothing is fetched from file_url"
        raise wrong_request(f"{place}.file_data", "it is missing", hint=hint)
    return {"type": "file", "file": found}


def _thoughts(item: Mapping[str, Any], place: str) -> str:
    """Return the text of a reasoning item, or else of its summary; what is encrypted cannot be read here."""
    for key in ("content", "summary"):
        parts = optional(list_at, item.get(key), f"{place}.{key}") or []
        places = ((f"{place}.{key}[{number}]", part) for number, part in enumerate(parts))
        texts = [text_at(object_at(part, here).get("text"), f"{here}.text") for here, part in places]
        if texts:
            return "\n".join(texts)
    return ""
