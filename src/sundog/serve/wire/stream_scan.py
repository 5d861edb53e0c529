"""A stream of chat chunks that passes through is watched for its tokens, its end and errors, and not read.

Owns the marks by which the few events are known that say so, and leaves out the tokens that the client did not ask for.
Only these events are parsed; every other chunk costs a search or two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sundog.engines.openai.protocol.json_text import parse_json

MAX_LINE_BYTES = 16 * 2**20
"""A longer line is passed on, and nothing is looked for in it."""
_MARK = re.compile(rb'"(?:usage"\s*:\s*\{|finish_reason"\s*:\s*"(?!")|error"\s*:\s*(?:\{|"(?!")))')
"""A field that says something. In a text of an answer its quotes would stand behind backslashes."""
_USAGE, _FINISH = b"u", b"f"
_NAME = b'"usage"'
_NO_TOKENS = re.compile(rb',\s*"usage"\s*:\s*null(?=\s*[,}])|(?<=\{)"usage"\s*:\s*null\s*,\s*')
"""The field of tokens that are not there, with the comma that goes with it."""


@dataclass(frozen=True, slots=True)
class ScannedEnd:
    """The facts that a stream has told."""

    #: As the server wrote it, None where it told none.
    usage: Mapping[str, Any] | None = None
    #: The last one, None where none came: the stream broke off.
    finish_reason: str | None = None
    #: An event was an error.
    has_error: bool = False


class StreamScan:
    """This class watches the bytes of one stream, which come in pieces of any size."""

    def __init__(self) -> None:
        self._open: list[bytes] = []
        self._num_open_bytes = 0
        self._usage_line = b""
        self._finish_line = b""
        self._has_error = False

    def feed(self, piece: bytes) -> None:
        """Take the next bytes."""
        if self._open:
            piece = self._joined(piece)
        elif not piece.endswith(b"\n"):
            piece = self._whole_lines(piece)
        if _MARK.search(piece):
            self._read(piece)

    def passed(self, piece: bytes) -> bytes:
        """Take the next bytes, and return those that are passed on: whole lines, without the event that tells of tokens
        and of nothing else, and without the field of others that says that there are none."""
        if self._open:
            piece = self._joined(piece)
        elif not piece.endswith(b"\n"):
            piece = self._whole_lines(piece)
        if _MARK.search(piece):
            self._read(piece)
        if _NAME in piece:
            piece = _without_usage(piece)
        if self._num_open_bytes > MAX_LINE_BYTES:
            piece += self._left()
            self._open.clear()
            self._num_open_bytes = 0
        return piece

    def last(self) -> bytes:
        """Return what `passed` has kept of the last line; before `end`."""
        return _without_usage(self._left())

    def end(self) -> ScannedEnd:
        """Return what the stream has told; its last line may lack its end."""
        rest = self._left()
        self._open.clear()
        if _MARK.search(rest):
            self._read(rest)
        usage = _usage_of(_event(self._usage_line))
        return ScannedEnd(usage, _finish_reason_of(_event(self._finish_line)), self._has_error)

    def _left(self) -> bytes:
        return b"".join(self._open)

    def _joined(self, piece: bytes) -> bytes:
        """Return the lines that `piece` ends, with what came of them before."""
        if b"\n" not in piece and b"\r" not in piece:
            self._keep(piece)
            return b""
        whole = b"".join((*self._open, piece))
        self._open.clear()
        self._num_open_bytes = 0
        return whole if piece.endswith(b"\n") else self._whole_lines(whole)

    def _whole_lines(self, piece: bytes) -> bytes:
        """Return the whole lines of `piece`, and keep the rest."""
        cut = max(piece.rfind(b"\n"), piece.rfind(b"\r")) + 1
        self._keep(piece[cut:])
        return piece[:cut]

    def _keep(self, rest: bytes) -> None:
        if rest and self._num_open_bytes <= MAX_LINE_BYTES:
            self._open.append(rest)
            self._num_open_bytes += len(rest)

    def _read(self, lines: bytes) -> None:
        for line in lines.splitlines():
            if len(line) > MAX_LINE_BYTES:
                continue
            marks = {found.group()[1:2] for found in _MARK.finditer(line)}
            if _USAGE in marks:
                self._usage_line = line
            if _FINISH in marks:
                self._finish_line = line
            if marks - {_USAGE, _FINISH} and not self._has_error:
                self._has_error = bool(_event(line).get("error"))


def _without_usage(lines: bytes) -> bytes:
    kept: list[bytes] = []
    is_hidden = False
    for line in lines.splitlines(keepends=True):
        # The empty line behind an event goes with it.
        is_hidden = _tells_usage_alone(line) or (is_hidden and not line.strip())
        if not is_hidden:
            kept.append(_without_null(line) if _NAME in line else line)
    return b"".join(kept)


def _without_null(line: bytes) -> bytes:
    if len(line) > MAX_LINE_BYTES or not (found := [*_NO_TOKENS.finditer(line)]):
        return line
    begin, end = found[-1].span()
    # A field further in may have the same name: the last one stands outermost, and any other is looked for there.
    is_outermost = line[end:].strip() == b"}" or (len(found) == 1 and "usage" in _event(line))
    return line[:begin] + line[end:] if is_outermost else line


def _tells_usage_alone(line: bytes) -> bool:
    if len(line) > MAX_LINE_BYTES or not _MARK.search(line):
        return False
    event = _event(line)
    return event.get("choices") == [] and isinstance(event.get("usage"), dict)


def _event(line: bytes) -> Mapping[str, Any]:
    """Return what the data of a line says, nothing for what is no JSON object."""
    try:
        found = parse_json(line.removeprefix(b"data:").strip())
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _usage_of(event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the tokens that an event tells, also that of a response (`/v1/responses`)."""
    response = event.get("response")
    for told in (event.get("usage"), response.get("usage") if isinstance(response, dict) else None):
        if isinstance(told, dict):
            return told
    return None


def _finish_reason_of(event: Mapping[str, Any]) -> str | None:
    choices = event.get("choices")
    told = [one.get("finish_reason") for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []
    return next((reason for reason in reversed(told) if isinstance(reason, str) and reason), None)
