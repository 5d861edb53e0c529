"""Calls of engines in this process: a body becomes an engine's request, and its chunks an answer.

Owns what such an engine can do, as its kind tells. Servers are asked in the client's own words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sundog.engines.base import Chunk, EngineKind, EngineOptions, GenerateRequest, PartsKind, SchemaLimitedKind
from sundog.serve.wire.chat.abilities import ChatAbilities
from sundog.serve.wire.chat.answer import ChatStream, chat_completion
from sundog.serve.wire.chat.request import ChatCall, chat_call
from sundog.serve.wire.completions import CompletionCall, CompletionStream, completion_call, text_completion
from sundog.serve.wire.usage import AnswerHead


def abilities_of(kind: EngineKind, options: EngineOptions) -> ChatAbilities:
    """Return what engines of a block can do."""
    return ChatAbilities(
        tool_form=kind.tool_form(options),
        part_kinds=kind.part_kinds(options) if isinstance(kind, PartsKind) else frozenset(),
        check_schema=kind.check_schema if isinstance(kind, SchemaLimitedKind) else None,
    )


class ChatTold:
    """This class tells the chunks of an engine as those of a chat."""

    def __init__(self, call: ChatCall, head: AnswerHead) -> None:
        self._call = call
        self._head = head
        self._stream = ChatStream(call, head)
        self._has_begun = False

    def feed(self, chunk: Chunk) -> list[dict[str, Any]]:
        begun = [] if self._has_begun else self._stream.first()
        self._has_begun = True
        return [*begun, *self._stream.feed(chunk)]

    def whole(self, chunks: list[Chunk]) -> dict[str, Any]:
        return chat_completion(self._call, chunks, self._head)


class CompletionTold:
    """This class tells the chunks of an engine as those of a completion."""

    def __init__(self, call: CompletionCall, head: AnswerHead) -> None:
        self._head = head
        self._stream = CompletionStream(call, head)

    def feed(self, chunk: Chunk) -> list[dict[str, Any]]:
        return self._stream.feed(chunk)

    def whole(self, chunks: list[Chunk]) -> dict[str, Any]:
        return text_completion(chunks, self._head)


@dataclass(frozen=True, slots=True)
class OwnCall:
    """One call of such an engine."""

    request: GenerateRequest
    told: ChatTold | CompletionTold


def own_call(body: Mapping[str, Any], head: AnswerHead, abilities: ChatAbilities, *, is_chat: bool) -> OwnCall:
    """Return the call that a body asks for; Refusal where it is wrong, or asks for what the engine cannot do."""
    if is_chat:
        chat = chat_call(body, head.id, abilities)
        return OwnCall(chat.request, ChatTold(chat, head))
    completion = completion_call(body, head.id, abilities)
    return OwnCall(completion.request, CompletionTold(completion, head))
