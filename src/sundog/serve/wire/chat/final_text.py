"""The final answer out of the form in which models without tools of their own answer, while it is written.

Owns when a text is taken as it is, unescaped as the answer of `{"tool": "final", "answer": "..."}`, or held back until
it is whole. What a whole one says is read by sundog.engines.structured.tool_form.
"""

from __future__ import annotations

import json
import re
from typing import Literal

from sundog.engines.base import FinishReason
from sundog.engines.structured.tool_form import ConstrainedAnswer, read_constrained, reads_as_json
from sundog.engines.tool_use import FINAL
from sundog.errors import BadResponse

_MAX_HEAD = 256
"""Characters before an answer; more of them are blanks, and the answer is then held until it is whole."""
_HEAD = re.compile(rf'\s*\{{\s*"tool"\s*:\s*"{FINAL}"\s*,\s*"answer"\s*:\s*')
_STRING = re.compile(r'(?:[^"\\]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+')
_HALF_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")


class FinalText:
    """This class reads one answer piece by piece."""

    def __init__(self) -> None:
        self._state: Literal["head", "free", "string", "held", "over"] = "head"
        self._pieces: list[str] = []
        #: The beginning of an escape of a string.
        self._open = ""

    @property
    def is_over(self) -> bool:
        """Return whether the final answer's text has been closed, whatever comes after it."""
        return self._state == "over"

    def feed(self, piece: str) -> str:
        """Return what `piece` adds to the final answer."""
        match self._state:
            case "head":
                self._pieces.append(piece)
                return self._begin("".join(self._pieces))
            case "free":
                return piece
            case "string":
                return self._unescaped(piece)
            case "held":
                self._pieces.append(piece)
        return ""

    def end(self, finish_reason: FinishReason) -> ConstrainedAnswer:
        """Return the rest of the final answer, or the call. An answer that was cut off (`length`) has what there is of
        it; BadResponse for one that is broken in another way."""
        text = "".join(self._pieces)
        if self._state not in ("head", "held"):
            return ConstrainedAnswer()
        answer = read_constrained(text)
        if answer.text != text or not text.lstrip().startswith("{") or reads_as_json(text):
            return answer
        if finish_reason != "length":
            raise BadResponse("the answer is not whole JSON: the engine does not constrain it", retryable=True)
        head = _HEAD.match(text)
        return ConstrainedAnswer(text[head.end() :] if head else "")

    def _begin(self, text: str) -> str:
        begin = text.lstrip()[:1]
        if begin and begin != "{":
            self._state = "free"
            self._pieces.clear()
            return text
        head = _HEAD.match(text)
        if head is not None and head.end() < len(text):
            if text[head.end()] == '"':
                self._state = "string"
                self._pieces.clear()
                return self._unescaped(text[head.end() + 1 :])
            self._state = "held"
        elif len(text) > _MAX_HEAD:
            self._state = "held"
        return ""

    def _unescaped(self, piece: str) -> str:
        text, self._open = self._open + piece, ""
        found = _STRING.match(text)
        end = found.end() if found else 0
        written = text[:end]
        rest = text[end:]
        if _HALF_ESCAPE.match(rest):
            self._open = rest
        elif rest.startswith('"'):
            self._state = "over"
        elif rest:
            raise BadResponse("the answer is no JSON: a backslash stands alone in its text", retryable=True)
        decoded: str = json.loads(f'"{written}"', strict=False)
        return decoded
