"""The chunks of a stream become the whole answer that a request without `stream` would have got.

Owns which fields of chunks are joined, and how. A stream with anything that nobody here knows how to join becomes no
answer. Never sends anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sundog.engines.openai.protocol.calls import CallJoiner
from sundog.engines.openai.protocol.choices import BROKEN_OFF
from sundog.engines.openai.protocol.failures import is_error
from sundog.engines.openai.protocol.json_text import joined_pairs
from sundog.errors import SundogError
from sundog.ir.values.normal_form import normal_form
from sundog.serve.wire.answer_parts import THOUGHTS
from sundog.serve.wire.sse import DONE_EVENT, ChunkReader

_OF_THE_FIRST = ("id", "object", "created", "model")
"""The fields that each chunk repeats; of all others the last value is that of the answer."""
_OF_CHUNKS = ("choices", "obfuscation")
_TEXTS = ("content", "refusal", *THOUGHTS)
_OF_CALLS = ({"index", "id", "type", "function"}, {"name", "arguments"})


class _NotKnown(Exception):
    """Raised for what nobody here knows how to join; caught by the joiner."""


class CompletionJoiner:
    """This class joins one stream of a chat, or of a completion, whose bytes come in pieces of any size."""

    def __init__(self) -> None:
        self._reader = ChunkReader()
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._is_known = True
        #: The end has come that a stream tells itself.
        self.is_done = False

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        if self._is_known:
            self._take(lambda: self._reader.feed(piece))
        # Where nobody reads its events any more, the end is known by its bytes.
        is_end = self._reader.is_done if self._is_known else piece.endswith(DONE_EVENT)
        self.is_done = self.is_done or is_end

    def end(self) -> dict[str, Any] | None:
        """Return the answer; None where the stream broke off, tells of a failure, or has what is not known here."""
        if self._is_known:
            self._take(self._reader.end)
        places = sorted(self._choices)
        if not self._is_known or not places or places != list(range(len(places))):
            return None
        try:
            choices = [self._choices[place].joined() for place in places]
            kind = "chat.completion" if "message" in choices[0] else "text_completion"
            usage = self._head.pop("usage", None)
            told = {} if usage is None else {"usage": usage}
            answer: dict[str, Any] = normal_form({**self._head, "object": kind, "choices": choices, **told})
        except (_NotKnown, SundogError, ValueError):
            return None
        return answer

    def _take(self, read: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        try:
            for chunk in read():
                self._add(chunk)
        except (_NotKnown, SundogError, AttributeError, TypeError):
            # The stream goes to its readers all the same; only nobody can keep it.
            self._is_known = False
            self._choices.clear()

    def _add(self, chunk: Mapping[str, Any]) -> None:
        if is_error(chunk):
            raise _NotKnown
        for name, value in chunk.items():
            if name in _OF_THE_FIRST:
                self._head.setdefault(name, value)
            elif name not in _OF_CHUNKS and (value is not None or name not in self._head):
                self._head[name] = value
        for choice in chunk.get("choices") or ():
            place = choice.get("index") or 0
            if place not in self._choices:
                self._choices[place] = _Choice(place)
            self._choices[place].add(choice)


class _Choice:
    """One of the answers in a stream."""

    def __init__(self, place: int) -> None:
        self._place = place
        self._is_chat = True
        self._role = "assistant"
        self._texts: dict[str, list[str]] = {"content": []}
        self._calls = CallJoiner()
        self._logprobs: dict[str, Any] | None = None
        #: Fields beside those, as they were told last.
        self._rest: dict[str, Any] = {"finish_reason": None}

    def add(self, choice: Mapping[str, Any]) -> None:
        """Take what a chunk says of it."""
        for name, value in choice.items():
            if name == "delta":
                self._add_delta(value or {})
            elif name == "text":
                self._is_chat = False
                self._texts["content"].append(_text(value))
            elif name == "logprobs":
                self._add_logprobs(value)
            elif name == "message" or (isinstance(value, list) and value):
                raise _NotKnown
            elif name != "index" and (value is not None or name not in self._rest):
                self._rest[name] = value

    def joined(self) -> dict[str, Any]:
        """Return the choice of a whole answer."""
        reason = self._rest["finish_reason"]
        if not isinstance(reason, str) or not reason or reason.lower() in BROKEN_OFF:
            raise _NotKnown
        if not self._is_chat:
            text = _joined(self._texts["content"])
            return {"index": self._place, "text": text, "logprobs": self._logprobs, **self._rest}
        message: dict[str, Any] = {"role": self._role}
        for name, pieces in self._texts.items():
            message[name] = _joined(pieces) or ("" if name == "content" else None)
        calls = self._calls.calls(is_cut=reason == "length")
        if calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = [
                {"id": one.id, "type": "function", "function": {"name": one.name, "arguments": one.arguments}}
                for one in calls
            ]
        return {"index": self._place, "message": message, "logprobs": self._logprobs, **self._rest}

    def _add_delta(self, delta: Mapping[str, Any]) -> None:
        for name, value in delta.items():
            if name == "role":
                self._role = value or self._role
            elif name in _TEXTS:
                self._texts.setdefault(name, []).append(_text(value))
            elif name == "tool_calls":
                for piece in value or ():
                    _check_call(piece)
                self._calls.add(value)
            elif value:
                raise _NotKnown

    def _add_logprobs(self, told: Any) -> None:
        if told is None:
            return
        if self._logprobs is None:
            self._logprobs = {}
        for name, value in told.items():
            known = self._logprobs.setdefault(name, None)
            if isinstance(value, list):
                self._logprobs[name] = [*(known or ()), *value]
            elif value is not None:
                raise _NotKnown


def _joined(pieces: list[str]) -> str:
    """Return the text of some pieces, between which a surrogate pair may be cut."""
    text = "".join(pieces)
    return text if text.isascii() else joined_pairs(text)


def _check_call(piece: Mapping[str, Any]) -> None:
    """Raise for a piece of a call that has more than a name and arguments."""
    of_call, of_function = _OF_CALLS
    function = piece.get("function") or {}
    has_more = any(value for name, value in piece.items() if name not in of_call)
    if has_more or any(value for name, value in function.items() if name not in of_function):
        raise _NotKnown
    if piece.get("type") not in (None, "", "function"):
        raise _NotKnown


def _text(written: Any) -> str:
    if written is None:
        return ""
    if not isinstance(written, str):
        raise _NotKnown
    return written
