"""Server-sent events of the gateway: written for clients, and read from engines as chat chunks.

Owns the bytes of an event. Never knows what an event means; the framing of what engines send is
`engines.openai.protocol.events`.
"""

from __future__ import annotations

import json
from typing import Any

from sundog.engines.openai.protocol.events import EventSplitter
from sundog.engines.openai.protocol.json_text import DONE, parse_json, shown_json
from sundog.errors import BadResponse

DONE_EVENT = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment: it keeps a connection open, and no client counts it as an event."""

MAX_SHOWN_CHARACTERS = 200


def event_bytes(data: dict[str, Any] | str, *, event: str | None = None, id: str | None = None) -> bytes:
    """Return one whole event. ValueError for a name or an id that would begin another line.

    JSON is written in ASCII, so that no reader takes a character of a text for the end of a line, and half of a
    surrogate pair does no harm.
    """
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    lines = [] if event is None else [f"event: {_one_line(event)}"]
    if id is not None:
        lines.append(f"id: {_one_line(id)}")
    lines.extend(f"data: {line}" for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    return ("\n".join(lines) + "\n\n").encode()


def _one_line(text: str) -> str:
    if "\n" in text or "\r" in text or "\0" in text:
        raise ValueError(f"an event's name or id is one line, not {text!r}")
    return text


class ChunkReader:
    """This class reads the chat chunks of one stream, whose bytes come in pieces of any size. `is_done`: `[DONE]` has
    come, which ends a stream and does not say that it is whole."""

    def __init__(self) -> None:
        self._splitter = EventSplitter()
        self.is_done = False

    def feed(self, piece: bytes) -> list[dict[str, Any]]:
        """Return the chunks that `piece` ends; BadResponse for an event that is no JSON object."""
        return self._chunks(self._splitter.feed(piece))

    def end(self) -> list[dict[str, Any]]:
        """Return the chunks that only the end of the stream ends."""
        return self._chunks(self._splitter.end())

    def _chunks(self, events: list[bytes]) -> list[dict[str, Any]]:
        chunks: list[dict[str, Any]] = []
        for data in events:
            if self.is_done or data == DONE:
                self.is_done = True
                break
            chunks.append(_chunk_of(data))
        return chunks


def _chunk_of(data: bytes) -> dict[str, Any]:
    try:
        value = parse_json(data)
    except ValueError as error:
        raise BadResponse(f"the engine sent an event that is not JSON ({error!s:.200})", retryable=True) from error
    if not isinstance(value, dict):
        shown = shown_json(value, MAX_SHOWN_CHARACTERS)
        raise BadResponse(f"the engine sent an event that is no JSON object: {shown}", retryable=True)
    return value
