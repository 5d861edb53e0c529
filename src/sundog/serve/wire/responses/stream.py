"""A stream of chat chunks becomes a stream of `/v1/responses`.

Owns the order of the events and their numbers: the response begins, item follows item, and one event says how it ended.
Never waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sundog.serve.wire.answer_parts import PartBegun, PartEnded, PartGrown, PartsStream, PartStep
from sundog.serve.wire.errors import Refusal
from sundog.serve.wire.responses.answers import (
    begun_response,
    content_part,
    ended_response,
    failed_response,
    item_of,
    item_status,
)
from sundog.serve.wire.sse import event_bytes

TEXT_EVENTS = {"text": "response.output_text", "refusal": "response.refusal", "reasoning": "response.reasoning_text"}


@dataclass(slots=True)
class _OpenItem:
    """The item that is being told."""

    begun: PartBegun
    id: str
    texts: list[str] = field(default_factory=list)


class ResponsesStream(PartsStream):
    """This class tells one answer. `answer`: the response object as the last event has it, None before."""

    def __init__(self, body: Mapping[str, Any], id: str, created: int) -> None:
        super().__init__()
        self._body = body
        self._id = id
        self._created = created
        self._response: dict[str, Any] | None = None
        self._item: _OpenItem | None = None
        self._output: list[dict[str, Any]] = []
        self._num_events = 0
        self.answer: dict[str, Any] | None = None

    @property
    def is_over(self) -> bool:
        return self.answer is not None

    def begin(self) -> list[bytes]:
        """Return the first events; `feed` sends them where this was not called before."""
        if self._response is not None:
            return []
        response = self._begun()
        return [
            self._event("response.created", response=response),
            self._event("response.in_progress", response=response),
        ]

    def ping(self) -> list[bytes]:
        """Return an event that says no more than that the answer is in progress: some clients give up on a stream
        without events, and comments are none to them."""
        if self.is_over:
            return []
        begun = self.begin()
        return begun or [self._event("response.in_progress", response=self._begun())]

    def _ended(self, steps: Sequence[PartStep]) -> list[bytes]:
        events = self._told(steps, is_end=True)
        if not self._output:
            events.extend(self._told([PartBegun("text"), PartEnded()], is_end=True))
        self.answer = ended_response(self._begun(), self._parts, self._output)
        return [*events, self._event(f"response.{self.answer['status']}", response=self.answer)]

    def fail(self, refusal: Refusal) -> list[bytes]:
        """Return the event that says that the answer failed, after those that begin it."""
        if self.is_over:
            return []
        begun = self.begin()
        self.answer = failed_response(self._begun(), self._parts, self._output, refusal)
        return [*begun, self._event("response.failed", response=self.answer)]

    def _begun(self) -> dict[str, Any]:
        if self._response is None:
            self._response = begun_response(self._body, self._id, self._created, self._parts.model)
        return self._response

    def _told(self, steps: Sequence[PartStep], *, is_end: bool = False) -> list[bytes]:
        """Return the events of `steps`, which end the answer (`is_end`) or come before its end."""
        events: list[bytes] = []
        for number, step in enumerate(steps):
            is_last = is_end and number == len(steps) - 1
            match step:
                case PartBegun():
                    events.extend(self._begin_item(step))
                case PartGrown(text=text) if self._item is not None:
                    events.append(self._grow(self._item, text))
                case PartEnded() if self._item is not None:
                    events.extend(self._end_item(self._item, is_last=is_last))
        return events

    def _begin_item(self, begun: PartBegun) -> list[bytes]:
        number = len(self._output)
        item = item_of(begun, "", self._id, number, "in_progress")
        self._item = _OpenItem(begun, item["id"])
        events = [self._event("response.output_item.added", output_index=number, item=item)]
        if begun.kind != "call":
            events.append(self._item_event("response.content_part.added", self._item, part=content_part(begun, "")))
        return events

    def _grow(self, item: _OpenItem, text: str) -> bytes:
        item.texts.append(text)
        if item.begun.kind == "call":
            return self._item_event("response.function_call_arguments.delta", item, delta=text)
        extra: dict[str, Any] = {"logprobs": []} if item.begun.kind == "text" else {}
        return self._item_event(f"{TEXT_EVENTS[item.begun.kind]}.delta", item, delta=text, **extra)

    def _end_item(self, item: _OpenItem, *, is_last: bool) -> list[bytes]:
        text, begun, number = "".join(item.texts), item.begun, len(self._output)
        events = [self._done(item, text)]
        if begun.kind != "call":
            events.append(self._item_event("response.content_part.done", item, part=content_part(begun, text)))
        whole = item_of(begun, text, self._id, number, item_status(self._parts, is_last=is_last))
        events.append(self._event("response.output_item.done", output_index=number, item=whole))
        self._output.append(whole)
        self._item = None
        return events

    def _done(self, item: _OpenItem, text: str) -> bytes:
        match item.begun.kind:
            case "call":
                name = item.begun.name
                return self._item_event("response.function_call_arguments.done", item, arguments=text, name=name)
            case "refusal":
                return self._item_event("response.refusal.done", item, refusal=text)
            case "text":
                return self._item_event("response.output_text.done", item, text=text, logprobs=[])
        return self._item_event("response.reasoning_text.done", item, text=text)

    def _item_event(self, kind: str, item: _OpenItem, **fields: Any) -> bytes:
        """Return an event of the open item; the content of every item is one part."""
        index = {} if item.begun.kind == "call" else {"content_index": 0}
        return self._event(kind, item_id=item.id, output_index=len(self._output), **index, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        number, self._num_events = self._num_events, self._num_events + 1
        return event_bytes({"type": kind, "sequence_number": number, **fields}, event=kind)
