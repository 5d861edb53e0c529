"""Events that differ from the one before only in their text: nearly all of a stream.

Owns a form learnt from one event, by which the text of the next is cut out. The result is that of parsing: between the
quotes of a JSON string, characters that are no quote, backslash or control character stand for themselves.
"""

from __future__ import annotations

import re
from typing import Any

from sundog.engines.openai.protocol.choices import Piece, read_choice
from sundog.engines.openai.protocol.json_text import parse_json

MAX_FAILURES = 8
"""After so many forms that fitted no other event, the server writes something new into each one."""
PROBE = b"sundog"

_CONTENT = re.compile(rb'("(?:content|text)"\s*:\s*")(?:[^"\\]|\\.)*"', re.S)
_NOT_ITSELF = re.compile(rb'["\\\x00-\x1f]')


class PlainEvents:
    """This class reads the events of one stream that differ in nothing but their text without parsing them: it learns
    the bytes before and after the text from one event and compares the next with them."""

    def __init__(self) -> None:
        self._head: bytes | None = None
        self._tail = b""
        self._num_failures = 0
        self._is_used = False

    def text_of(self, data: bytes) -> str | None:
        """Return the text of an event of the form learnt last; None for any other."""
        head, tail = self._head, self._tail
        if head is None or not data.startswith(head) or not data.endswith(tail) or len(data) < len(head) + len(tail):
            return None
        middle = data[len(head) : len(data) - len(tail)]
        if _NOT_ITSELF.search(middle):
            return None
        self._is_used = True
        return middle.decode("utf-8", "replace")

    def learn(self, data: bytes, event: Any) -> None:
        """Take the form of an event that says nothing but its text."""
        if self._num_failures > MAX_FAILURES or _only_text(event) is None:
            return
        if self._head is not None and not self._is_used:
            self._num_failures += 1
        written = _CONTENT.search(data)
        if written is None:
            return
        head, tail = data[: written.end(1)], data[written.end() - 1 :]
        if _only_text(parse_json(head + PROBE + tail)) == PROBE.decode():
            self._head, self._tail, self._is_used = head, tail, False
        else:
            self._num_failures += 1


def _only_text(event: Any) -> str | None:
    """Return the text of an event with one choice of which nothing else is to be looked at; None for any other."""
    if not isinstance(event, dict) or event.get("usage") or len(event.get("choices") or ()) != 1:
        return None
    piece = read_choice(event["choices"][0])
    return piece.text if piece.text and piece == Piece(piece.text) else None
