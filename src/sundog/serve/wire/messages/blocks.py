"""The blocks of Anthropic's messages, as the parts of chat.

Owns pictures, documents and what a block is called. Never knows whose message a block is in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sundog.serve.wire.conversation import text_part
from sundog.serve.wire.errors import wrong_request
from sundog.serve.wire.fields import list_at, object_at, optional, shown_field, text_at, word_at

PASSED_OVER = {"redacted_thinking", "server_tool_use", "mcp_tool_use", "container_upload", "tool_reference"}
"""Blocks that only the servers of Anthropic can read; so are the results of their tools."""


def blocks_at(value: Any, param: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the blocks of a content, each with its place in the request; text alone is one block."""
    if isinstance(value, str):
        return [(param, text_part(value))]
    places = ((f"{param}[{number}]", block) for number, block in enumerate(list_at(value, param)))
    return [(place, object_at(block, place)) for place, block in places]


def is_passed_over(kind: Any) -> bool:
    """Return whether a block means nothing to the models here."""
    return isinstance(kind, str) and (kind in PASSED_OVER or (kind.endswith("_tool_result") and kind != "tool_result"))


def parts_of(value: Any, param: str, *, is_inner: bool = False) -> list[dict[str, Any]]:
    """Return the parts of a content that holds text, pictures and documents; one inside a document (`is_inner`) holds
    no documents."""
    return [part for place, block in blocks_at(value, param) for part in block_parts(block, place, is_inner=is_inner)]


def block_parts(block: dict[str, Any], place: str, *, is_inner: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the parts that a block of text, a picture or a document has in chat; a refusal for any other block."""
    match block.get("type"):
        case "text":
            yield text_part(text_at(block.get("text"), f"{place}.text"))
        case "image":
            yield _picture(object_at(block.get("source"), f"{place}.source"), f"{place}.source")
        case "document" if not is_inner:
            yield from _document(block, place)
        case "search_result" if not is_inner:
            yield _search_result(block, place)
        case kind if not is_passed_over(kind):
            raise wrong_request(f"{place}.type", f"a block of the type {shown_field(kind)} is not known here")


def _picture(source: dict[str, Any], place: str) -> dict[str, Any]:
    match source.get("type"):
        case "base64":
            return {"type": "image_url", "image_url": {"url": _data_url(source, place)}}
        case "url":
            return {"type": "image_url", "image_url": {"url": word_at(source.get("url"), f"{place}.url")}}
    hint = "send it as base64 or url"
    raise wrong_request(f"{place}.type", f"a picture from {shown_field(source.get('type'))} cannot be had", hint=hint)


def _document(block: dict[str, Any], place: str) -> Iterator[dict[str, Any]]:
    source, here = object_at(block.get("source"), f"{place}.source"), f"{place}.source"
    title = optional(text_at, block.get("title"), f"{place}.title")
    context = optional(text_at, block.get("context"), f"{place}.context")
    head = "\n".join(text for text in (title, context) if text)
    match source.get("type"):
        case "text":
            text = text_at(source.get("data"), f"{here}.data")
            yield text_part(f"{head}\n{text}" if head else text)
        case "content":
            if head:
                yield text_part(head)
            yield from parts_of(source.get("content"), f"{here}.content", is_inner=True)
        case "base64":
            yield _file(file_data=_data_url(source, here), filename=title or "document.pdf")
        case "file":
            yield _file(file_id=word_at(source.get("file_id"), f"{here}.file_id"))
        case kind:
            hint = "send it as text, content, base64 or file"
            raise wrong_request(f"{here}.type", f"a document from {shown_field(kind)} cannot be had", hint=hint)


def _search_result(block: dict[str, Any], place: str) -> dict[str, Any]:
    parts = parts_of(block.get("content"), f"{place}.content", is_inner=True)
    texts = [part["text"] for part in parts if part["type"] == "text"]
    heads = [optional(text_at, block.get(key), f"{place}.{key}") for key in ("title", "source")]
    return text_part("\n".join([*(head for head in heads if head), *texts]))


def _file(**fields: str) -> dict[str, Any]:
    return {"type": "file", "file": fields}


def _data_url(source: dict[str, Any], place: str) -> str:
    media_type = word_at(source.get("media_type"), f"{place}.media_type")
    return f"data:{media_type};base64,{word_at(source.get('data'), f'{place}.data')}"
