"""The parts of a chat answer, in the order in which they came: thinking, text, refusals and calls of tools.

Owns which piece of a stream belongs to which part, and when a part is whole. One part is open at a time: pieces of
another one wait until it is whole, since the forms of the gateway tell of part after part. An answer that came whole
goes the same way, so that it and a stream of it are told alike. The forms write the events.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from sundog.engines.openai.protocol.calls import CallJoiner, CallPiece
from sundog.engines.openai.protocol.choices import BROKEN_OFF, CUT_OFF, FILTERED, STOPPED, TOOLS
from sundog.engines.openai.protocol.failures import error_told, is_error
from sundog.engines.openai.protocol.json_text import joined_pairs, parse_json, shown_json
from sundog.errors import BadResponse, SundogError
from sundog.serve.wire.errors import Refusal, refusal_of

AnswerPartKind = Literal["reasoning", "text", "refusal", "call"]
AnswerEnd = Literal["stop", "length", "tool_calls", "content_filter"]

THOUGHTS = ("reasoning", "reasoning_content", "thinking")
"""The fields in which servers write the thinking of a model; the first that is there counts."""


@dataclass(frozen=True, slots=True)
class PartBegun:
    """A part begins."""

    kind: AnswerPartKind
    #: The id and the name of a call; the id is empty where the engine gave none.
    call_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class PartGrown:
    """Text is added to the part that is open."""

    text: str


@dataclass(frozen=True, slots=True)
class PartEnded:
    """The part that is open is whole."""


PartStep = PartBegun | PartGrown | PartEnded


@dataclass(slots=True)
class _Part:
    """A part that is open, or waits for the one before it."""

    kind: AnswerPartKind
    call_id: str = ""
    name: str = ""
    #: Pieces that no step has told of.
    untold: list[str] = field(default_factory=list)
    #: All pieces so far, for calls.
    pieces: list[str] = field(default_factory=list)
    has_begun: bool = False
    has_ended: bool = False
    #: The number of pieces when it was last seen to be no JSON object.
    num_judged: int = -1

    def add(self, text: str) -> None:
        if text:
            self.untold.append(text)
            if self.kind == "call":
                self.pieces.append(text)

    @property
    def can_begin(self) -> bool:
        """Return whether it can be told of: a call needs its name, and an id as far as one comes."""
        return self.kind != "call" or bool(self.name and (self.call_id or self.pieces))

    def is_whole(self) -> bool:
        """Return whether nothing more belongs to it, now that another part has begun."""
        if self.kind != "call":
            return True
        if not self.can_begin or self.num_judged == len(self.pieces):
            return False
        self.num_judged = len(self.pieces)
        with suppress(ValueError):
            return isinstance(parse_json("".join(self.pieces).encode("utf-8", "surrogatepass")), dict)
        return False

    def take(self, *, is_last: bool) -> str:
        """Return the text that is not told of yet; the first half of a surrogate pair waits for the second one."""
        text = "".join(self.untold)
        self.untold.clear()
        if not is_last and text and "\ud800" <= text[-1] <= "\udbff":
            self.untold.append(text[-1])
            text = text[:-1]
        return text if text.isascii() else joined_pairs(text)


class AnswerParts:
    """This class reads one answer: chunks of a stream, or a whole completion as its only chunk. `end_reason`: None
    until it has come. `stop_text`: the stop sequence that ended it, where the engine tells. `usage`: as the engine
    writes it."""

    def __init__(self) -> None:
        self._line: deque[_Part] = deque()
        self._calls: dict[int, _Part] = {}
        self._joiner = CallJoiner()
        self.model = ""
        self.end_reason: AnswerEnd | None = None
        self.stop_text: str | None = None
        self.usage: Mapping[str, Any] | None = None

    def feed(self, chunk: Mapping[str, Any]) -> list[PartStep]:
        """Return the steps that a chunk makes; EngineError where it tells of a failure or has another form."""
        if is_error(chunk):
            raise error_told(chunk)
        if isinstance(usage := chunk.get("usage"), Mapping):
            self.usage = usage
        if isinstance(model := chunk.get("model"), str) and model:
            self.model = self.model or model
        try:
            for choice in chunk.get("choices") or ():
                if not (choice.get("index") or 0):
                    self._read(choice)
        except (AttributeError, TypeError) as error:
            raise BadResponse(f"the engine sent a malformed answer: {error!s:.200}", retryable=True) from error
        return list(self._told(is_end=False))

    def end(self) -> list[PartStep]:
        """Return the last steps; BadResponse where the answer broke off, or a call has no name."""
        if self.end_reason is None:
            raise BadResponse("the answer broke off before its end", retryable=True)
        if any(not part.name for part in self._calls.values()):
            raise BadResponse("the engine sent a tool's call without the tool's name", retryable=True)
        if self.end_reason == "stop" and self._calls:
            # So ends a call that was asked for by name.
            self.end_reason = "tool_calls"
        return list(self._told(is_end=True))

    def _read(self, choice: Mapping[str, Any]) -> None:
        message, is_whole = choice.get("delta"), False
        if message is None:
            message, is_whole = choice.get("message") or {}, True
        for kind, text in _texts(message):
            self._part(kind).add(text)
        calls = message.get("tool_calls") or ([one] if (one := message.get("function_call")) else None)
        for piece in self._joiner.add(calls, is_whole=is_whole):
            self._add_to_call(piece)
        # Some servers leave the reason out of an answer that comes whole.
        self.end_reason = _end_reason(choice.get("finish_reason")) or ("stop" if is_whole else self.end_reason)
        if isinstance(stop := choice.get("stop_reason"), str):
            self.stop_text = stop

    def _part(self, kind: AnswerPartKind) -> _Part:
        """Return the part that a piece of `kind` belongs to: the last one, or a new one."""
        if not self._line or self._line[-1].kind != kind:
            self._line.append(_Part(kind))
        return self._line[-1]

    def _add_to_call(self, piece: CallPiece) -> None:
        part = self._calls.get(piece.place)
        if part is None:
            part = self._calls[piece.place] = _Part("call")
            self._line.append(part)
        if part.has_ended and piece.text.strip():
            raise BadResponse(f"the engine sent more of the call of '{part.name}' after its end", retryable=True)
        part.call_id = part.call_id or piece.id
        part.name = part.name or piece.name
        part.add(piece.text)

    def _told(self, *, is_end: bool) -> Iterator[PartStep]:
        """Tell of the first part in line, and of those behind it as far as the ones before them are whole."""
        while self._line:
            part = self._line[0]
            is_last = is_end or (len(self._line) > 1 and part.is_whole())
            if is_end or part.can_begin:
                yield from self._told_of(part, is_last=is_last)
            if not is_last:
                return
            part.has_ended = True
            self._line.popleft()
            yield PartEnded()

    def _told_of(self, part: _Part, *, is_last: bool) -> Iterator[PartStep]:
        if not part.has_begun:
            part.has_begun = True
            yield PartBegun(part.kind, part.call_id, part.name)
        text = part.take(is_last=is_last)
        is_cut = self.end_reason == "length" and len(self._line) == 1
        if part.kind == "call" and is_last and not is_cut and not "".join(part.pieces).strip():
            text = "{}"
        if text:
            yield PartGrown(text)


def _texts(message: Mapping[str, Any]) -> Iterator[tuple[AnswerPartKind, str]]:
    """Yield the pieces of text in a message or a delta, in the order of an answer."""
    thoughts = next((found for key in THOUGHTS if (found := message.get(key))), None)
    if thoughts is not None:
        yield "reasoning", _text(thoughts)
    content = message.get("content")
    for part in content if isinstance(content, list) else ():
        kind: AnswerPartKind = "refusal" if part.get("type") == "refusal" else "text"
        if text := _text(part.get(kind)):
            yield kind, text
    if content and not isinstance(content, list):
        yield "text", _text(content)
    if refusal := message.get("refusal"):
        yield "refusal", _text(refusal)


def _text(written: Any) -> str:
    if written is None:
        return ""
    if not isinstance(written, str):
        raise TypeError(f"its text is of the type {type(written).__name__}")
    return written


def _end_reason(written: Any) -> AnswerEnd | None:
    """Return the reason in OpenAI's words, None where there is none yet."""
    reason = shown_json(_text(written), 80).lower()
    if not reason:
        return None
    if reason in STOPPED:
        return "stop"
    if reason in CUT_OFF or reason == "repetition":
        return "length"
    if reason in TOOLS:
        return "tool_calls"
    if reason in FILTERED:
        return "content_filter"
    what = "broke off the answer" if reason in BROKEN_OFF else "ended the answer for a reason that is not known here"
    raise BadResponse(f"the engine {what}: '{reason}'", retryable=reason in BROKEN_OFF)


def tokens_told(usage: Mapping[str, Any] | None, *path: str) -> int:
    """Return the count at `path` in the usage of an answer, 0 where it is not told."""
    value: Any = usage
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


class PartsStream(ABC):
    """A stream that tells the parts of one answer in a form. After `end` or `fail`, and after a chunk that tells of a
    failure, nothing follows."""

    def __init__(self) -> None:
        self._parts = AnswerParts()

    @property
    @abstractmethod
    def is_over(self) -> bool:
        """Return whether the last event has been told."""

    @abstractmethod
    def begin(self) -> list[bytes]:
        """Return the first events; `feed` sends them where this was not called before."""

    @abstractmethod
    def fail(self, refusal: Refusal) -> list[bytes]:
        """Return the events that end the stream with a failure."""

    def feed(self, chunk: Mapping[str, Any]) -> list[bytes]:
        """Return the events that a chunk makes."""
        if self.is_over:
            return []
        try:
            steps = self._parts.feed(chunk)
        except SundogError as error:
            return self.fail(refusal_of(error))
        return [*self.begin(), *self._told(steps)]

    def end(self) -> list[bytes]:
        """Return the last events; those of a failure where the answer broke off."""
        if self.is_over:
            return []
        try:
            steps = self._parts.end()
        except SundogError as error:
            return self.fail(refusal_of(error))
        return [*self.begin(), *self._ended(steps)]

    @abstractmethod
    def _told(self, steps: Sequence[PartStep]) -> list[bytes]:
        """Return the events of steps that come before the end."""

    @abstractmethod
    def _ended(self, steps: Sequence[PartStep]) -> list[bytes]:
        """Return the events of the last steps, and of the end."""
