"""Bodies, abilities and answers that the tests of chats share."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from sundog.engines.base import Chunk, FinishReason, Usage
from sundog.engines.modelled.null import NullKind, NullOptions
from sundog.serve.wire.chat.abilities import ChatAbilities
from sundog.serve.wire.chat.request import ChatCall, chat_call
from sundog.serve.wire.usage import AnswerHead

HEAD = AnswerHead("chatcmpl-1", 1_790_000_000, "small")
USAGE = Usage(7, 3, num_cached_tokens=4)
KIND = NullKind()
OPTIONS = NullOptions(model="none")
CONSTRAINED = ChatAbilities("constrained", KIND.part_kinds(OPTIONS), KIND.check_schema)
NATIVE = ChatAbilities("native", frozenset({"image", "file"}), has_own_sampling=True)
PNG = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (16).to_bytes(4, "big") + (9).to_bytes(4, "big") + b"\x08\x02\0\0\0"
).decode()
PDF = base64.b64encode(b"%PDF-1.7 nothing").decode()
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tell it.", "parameters": CITY}}
CLOCK = {"type": "function", "function": {"name": "clock"}}


def body(**fields: Any) -> dict[str, Any]:
    """A chat's body with one message."""
    return {"model": "small", "messages": [{"role": "user", "content": "hello"}], **fields}


def called(abilities: ChatAbilities = CONSTRAINED, **fields: Any) -> ChatCall:
    """The call of a body with one message and other fields."""
    return chat_call(body(**fields), "r1", abilities)


def in_pieces(text: str, finish_reason: FinishReason = "stop", size: int = 3) -> Iterator[Chunk]:
    """The chunks of an answer, `size` characters in each."""
    pieces = [text[at : at + size] for at in range(0, len(text), size)] or [""]
    for piece in pieces[:-1]:
        yield Chunk(piece)
    yield Chunk(pieces[-1], finish_reason, USAGE)


def as_json(value: Any) -> str:
    """Compact JSON, as constrained answers are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
