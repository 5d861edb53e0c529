"""The forms in which clients ask models, each over a chat: how its body becomes one, and how its answer is told.

Owns which form belongs to which path. Never talks to an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sundog.serve.wire.errors import (
    Refusal,
    anthropic_error,
    anthropic_status,
    openai_error,
    openai_error_event,
)
from sundog.serve.wire.messages.answers import messages_from_chat
from sundog.serve.wire.messages.requests import messages_to_chat
from sundog.serve.wire.messages.stream import MessagesStream
from sundog.serve.wire.responses.answers import responses_from_chat
from sundog.serve.wire.responses.requests import responses_to_chat
from sundog.serve.wire.responses.stream import ResponsesStream
from sundog.serve.wire.sse import DONE_EVENT, event_bytes

Items = Sequence[Mapping[str, Any]]


class FormStream(Protocol):
    """This class tells one answer as a stream: each method returns the next events."""

    def begin(self) -> list[bytes]: ...

    def ping(self) -> list[bytes]: ...

    def feed(self, chunk: Mapping[str, Any]) -> list[bytes]: ...

    def end(self) -> list[bytes]: ...

    def fail(self, refusal: Refusal) -> list[bytes]: ...


class PlainStream:
    """This class tells the chunks of a chat, or of a completion, as they are."""

    def begin(self) -> list[bytes]:
        return []

    def ping(self) -> list[bytes]:
        return []

    def feed(self, chunk: Mapping[str, Any]) -> list[bytes]:
        return [event_bytes(dict(chunk))]

    def end(self) -> list[bytes]:
        return [DONE_EVENT]

    def fail(self, refusal: Refusal) -> list[bytes]:
        return [openai_error_event(refusal), DONE_EVENT]


@dataclass(frozen=True, slots=True)
class WireForm:
    """One form. A plain one is what servers of the OpenAI protocol speak: their bytes pass through."""

    #: The path at such a server.
    path: str
    is_plain: bool
    #: Gives the chat that a body asks for; Refusal for a wrong one.
    to_chat: Callable[[Any, Items], dict[str, Any]]
    #: Gives the answer of a chat's completion: of it, the body, the id and the time in seconds since 1970.
    from_chat: Callable[[Mapping[str, Any], Any, str, int], Mapping[str, Any]]
    stream: Callable[[Any, str, int], FormStream]
    #: Give an error's body and status.
    error: Callable[[Refusal], Mapping[str, Any]] = openai_error
    status: Callable[[Refusal], int] = lambda refusal: refusal.status
    #: The beginning of ids of answers.
    prefix: str = "chatcmpl-"


def _plain(path: str, prefix: str) -> WireForm:
    return WireForm(
        path,
        True,
        lambda body, earlier: _object(body),
        lambda completion, body, id, created: completion,
        lambda body, id, created: PlainStream(),
        prefix=prefix,
    )


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise Refusal(400, "the body is no JSON object", is_final=True)
    return body


CHAT = _plain("/chat/completions", "chatcmpl-")
COMPLETIONS = _plain("/completions", "cmpl-")
EMBEDDINGS = _plain("/embeddings", "embd-")
RESPONSES = WireForm(
    "/chat/completions",
    False,
    lambda body, earlier: responses_to_chat(body, earlier=earlier),
    responses_from_chat,
    ResponsesStream,
    prefix="resp_",
)
MESSAGES = WireForm(
    "/chat/completions",
    False,
    lambda body, earlier: messages_to_chat(body),
    lambda completion, body, id, created: messages_from_chat(completion, body, id),
    lambda body, id, created: MessagesStream(body, id),
    error=anthropic_error,
    status=anthropic_status,
    prefix="msg_",
)
