"""A stream of chat chunks becomes a stream of `/v1/messages`.

Owns the order of the events: the message starts, block follows block, the message ends with its usage. Never waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sundog.serve.wire.answer_parts import PartBegun, PartEnded, PartGrown, PartsStream, PartStep
from sundog.serve.wire.errors import Refusal, anthropic_error_event
from sundog.serve.wire.messages.answers import SIGNATURE, begun_block, empty_answer, end_fields, usage_of
from sundog.serve.wire.messages.requests import shows_thinking
from sundog.serve.wire.sse import event_bytes


class MessagesStream(PartsStream):
    """This class tells one answer. `num_prompt_tokens` is what the first event says of the prompt; the last one says
    what the engine counted."""

    def __init__(self, body: Mapping[str, Any], id: str, *, num_prompt_tokens: int = 0) -> None:
        super().__init__()
        self._body = body
        self._id = id
        self._num_prompt_tokens = num_prompt_tokens
        self._shows_thinking = shows_thinking(dict(body))
        self._open: PartBegun | None = None
        self._num_blocks = 0
        self._has_begun = False
        self._has_refused = False
        self._is_over = False

    @property
    def is_over(self) -> bool:
        return self._is_over

    def begin(self) -> list[bytes]:
        """Return the first event; `feed` sends it where this was not called before."""
        if self._has_begun or self.is_over:
            return []
        self._has_begun = True
        model = self._parts.model or str(self._body.get("model"))
        message = empty_answer(self._id, model, num_prompt_tokens=self._num_prompt_tokens)
        return [_event("message_start", message=message)]

    def ping(self) -> list[bytes]:
        """Return an event without meaning, for a client that waits."""
        return [] if self.is_over else [*self.begin(), _event("ping")]

    def _ended(self, steps: Sequence[PartStep]) -> list[bytes]:
        events = self._told(steps)
        self._is_over = True
        delta = end_fields(self._parts, self._body, has_refused=self._has_refused)
        return [
            *events,
            _event("message_delta", delta=delta, usage=usage_of(self._parts.usage)),
            _event("message_stop"),
        ]

    def fail(self, refusal: Refusal) -> list[bytes]:
        """Return the event that ends the stream with an error."""
        if self.is_over:
            return []
        self._is_over = True
        return [anthropic_error_event(refusal)]

    def _told(self, steps: Sequence[PartStep]) -> list[bytes]:
        events: list[bytes] = []
        for step in steps:
            if isinstance(step, PartBegun):
                self._open = step
                self._has_refused = self._has_refused or step.kind == "refusal"
            if self._open is not None and (self._open.kind != "reasoning" or self._shows_thinking):
                events.extend(self._block_events(step, self._open))
        return events

    def _block_events(self, step: PartStep, begun: PartBegun) -> list[bytes]:
        index = self._num_blocks
        match step:
            case PartBegun():
                block = begun_block(begun, self._id, index)
                return [_event("content_block_start", index=index, content_block=block)]
            case PartGrown(text=text):
                return [_event("content_block_delta", index=index, delta=_delta(begun, text))]
            case PartEnded():
                self._num_blocks += 1
                stop = _event("content_block_stop", index=index)
                if begun.kind != "reasoning":
                    return [stop]
                signature = {"type": "signature_delta", "signature": SIGNATURE}
                return [_event("content_block_delta", index=index, delta=signature), stop]


def _delta(begun: PartBegun, text: str) -> dict[str, Any]:
    match begun.kind:
        case "reasoning":
            return {"type": "thinking_delta", "thinking": text}
        case "call":
            return {"type": "input_json_delta", "partial_json": text}
    return {"type": "text_delta", "text": text}


def _event(kind: str, **fields: Any) -> bytes:
    return event_bytes({"type": kind, **fields}, event=kind)
