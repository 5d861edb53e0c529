"""Server-sent events: bytes in pieces of any size become the data of whole events.

Owns the framing, as the specification has it (LF, CR and CRLF, comments, several data lines, a byte order mark) and as
servers also send it: no empty line between two events, no line end after the last one, an event without `data:`.
Never reads what an event says.
"""

from __future__ import annotations

import codecs

from sundog.engines.openai.protocol.json_text import is_event
from sundog.errors import BadResponse

MAX_EVENT_BYTES = 16 * 2**20
"""The longest event, or whole answer, that is kept: several million tokens."""


class EventSplitter:
    """The state of one stream; a piece costs what it holds."""

    def __init__(self) -> None:
        self._is_first = True
        self._ends_with_cr = False
        self._open: list[bytes] = []
        self._lines: list[bytes] = []
        self._num_bytes = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the data of the events that `piece` ends; BadResponse when one grows past MAX_EVENT_BYTES."""
        if self._ends_with_cr and piece:
            piece, self._ends_with_cr = piece.removeprefix(b"\n"), False
        if b"\n" not in piece and b"\r" not in piece:
            self._keep(piece)
            return []
        self._ends_with_cr = piece.endswith(b"\r")
        self._open.append(piece)
        # Split at the byte level: a text may hold characters that str.splitlines takes for line ends.
        lines = b"".join(self._open).splitlines()
        self._open.clear()
        rest = b"" if piece.endswith((b"\n", b"\r")) else lines.pop()
        events: list[bytes] = []
        for line in lines:
            self._read_line(line, events)
        self._num_bytes = sum(len(line) + 1 for line in self._lines)
        self._keep(rest)
        return events

    def end(self) -> list[bytes]:
        """Return the data of the events that only the end of the stream ends."""
        events: list[bytes] = []
        if self._open:
            line = b"".join(self._open)
            self._open.clear()
            self._read_line(line, events)
        self._read_line(b"", events)
        return events

    def _keep(self, rest: bytes) -> None:
        if rest:
            self._open.append(rest)
            self._num_bytes += len(rest)
        if self._num_bytes > MAX_EVENT_BYTES:
            raise BadResponse(f"the server sent an event of more than {MAX_EVENT_BYTES // 2**20} MiB")

    def _read_line(self, line: bytes, events: list[bytes]) -> None:
        if self._is_first:
            line, self._is_first = line.removeprefix(codecs.BOM_UTF8), False
        if line.startswith(b"data:"):
            # Without an empty line between them two lines are two events, where the first one is whole.
            if len(self._lines) == 1 and is_event(self._lines[0]):
                events.append(self._lines.pop())
            self._lines.append(line[5:].strip())
        elif not line:
            self._dispatch(events)
        elif line.startswith(b"{"):
            self._dispatch(events)
            events.append(line)

    def _dispatch(self, events: list[bytes]) -> None:
        if self._lines:
            events.append(b"\n".join(self._lines))
            self._lines.clear()
