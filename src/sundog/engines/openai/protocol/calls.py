"""The calls of tools in an answer, joined from the pieces in which servers send them.

Owns which pieces belong to one call: by `index`, which servers also leave out, write as -1, or give to several calls.
What an answer that came whole lists are calls and no pieces, whatever their ids. Never judges names or arguments.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from sundog.engines.openai.protocol.json_text import joined_pairs, parse_json
from sundog.engines.tool_use import ToolCall
from sundog.errors import BadResponse

MAX_CALLS = 128


@dataclass(frozen=True, slots=True)
class CallPiece:
    """A piece that was joined to a call."""

    #: The place of the call among those that have begun, from 0.
    place: int
    #: Empty as long as it is not known.
    id: str
    #: Empty as long as it is not known.
    name: str
    #: The piece of the arguments.
    text: str


@dataclass(slots=True)
class _Open:
    """A call of which pieces may still come."""

    place: int
    index: int | None
    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    num_characters: int = 0

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


class CallJoiner:
    """This class joins the pieces of the calls of one answer. `num_characters`: how much they have written."""

    def __init__(self) -> None:
        self._calls: list[_Open] = []
        self.num_characters = 0

    def add(self, pieces: Any, *, is_whole: bool = False) -> list[CallPiece]:
        """Take what one event says of calls, or an answer that came whole (`is_whole`), and return what it adds to
        which call. TypeError or AttributeError for another form."""
        if not pieces:
            return []
        if not isinstance(pieces, list):
            raise TypeError("its tool_calls are no list")
        return [self._add(piece, is_whole=is_whole) for piece in pieces]

    def calls(self, *, is_cut: bool = False) -> tuple[ToolCall, ...]:
        """Return the calls in their order; BadResponse for one that names no tool. A call without arguments has `{}`,
        unless the answer was cut off in it (`is_cut`): it might have had some."""
        found = sorted(self._calls, key=lambda call: -1 if call.index is None else call.index)
        for call in found:
            if not call.name:
                raise BadResponse("the server sent a tool's call without the tool's name", retryable=True)
        last = self._calls[-1] if is_cut and self._calls else None
        return tuple(
            ToolCall(call.id, call.name, joined_pairs(call.arguments).strip() or ("" if call is last else "{}"))
            for call in found
        )

    def _add(self, piece: Any, *, is_whole: bool) -> CallPiece:
        function = piece.get("function") or piece
        id, name, text = _id(piece.get("id")), _text(function.get("name")), _arguments(function.get("arguments"))
        call = self._begun(None, id) if is_whole else self._call_of(_index(piece.get("index")), id, name, text)
        call.id = call.id or id
        call.name = call.name or name
        if text and len(text) == call.num_characters and text == call.arguments and _is_object(text):
            # Some proxies end a call with all of it once more.
            return CallPiece(call.place, call.id, call.name, "")
        call.pieces.append(text)
        call.num_characters += len(text)
        self.num_characters += len(text) + len(name)
        return CallPiece(call.place, call.id, call.name, text)

    def _call_of(self, index: int | None, id: str, name: str, text: str) -> _Open:
        """Return the call that a piece belongs to: a new one where the piece begins one."""
        last = self._calls[-1] if self._calls else None
        # Servers with one id for all calls tell them apart by their index.
        same = [call for call in self._calls if call.id == id and (index is None or call.index in (None, index))]
        if id and same and not _begins_another(same[-1], name, text):
            return same[-1]
        if index is not None:
            known = next((call for call in reversed(self._calls) if call.index == index), None)
            # Several calls of one index are told apart by what only the beginning of a call has.
            if known is not None and not (id and name and known.id and known.name):
                return known
        elif last is not None and not name and not (id and last.id and _is_object(last.arguments)):
            return last
        return self._begun(index, id)

    def _begun(self, index: int | None, id: str) -> _Open:
        """Return a new call."""
        if len(self._calls) >= MAX_CALLS:
            raise BadResponse(f"the model called more than {MAX_CALLS} tools at once")
        self._calls.append(_Open(len(self._calls), index, id))
        return self._calls[-1]


def _begins_another(known: _Open, name: str, text: str) -> bool:
    """Return whether a piece with the id of a call is another call, whole as the known one is."""
    is_whole = bool(name and known.name) and _is_object(text) and _is_object(known.arguments)
    return is_whole and text != known.arguments


def _index(written: Any) -> int | None:
    if isinstance(written, bool) or not isinstance(written, int) or written < 0:
        return None
    return written


def _id(written: Any) -> str:
    """Return an id as text: some servers count calls."""
    return str(written) if isinstance(written, int) else _text(written)


def _text(written: Any) -> str:
    if written is None:
        return ""
    if not isinstance(written, str):
        raise TypeError(f"a call's id or name is of the type {type(written).__name__}")
    return joined_pairs(written)


def _arguments(written: Any) -> str:
    """Return a piece of the arguments; some servers send a value in the place of its text. One that is no object is a
    mistake of the model's, which is told of it."""
    if written is None:
        return ""
    return written if isinstance(written, str) else json.dumps(written, ensure_ascii=False, separators=(",", ":"))


def _is_object(text: str) -> bool:
    with suppress(ValueError):
        return isinstance(parse_json(text.encode("utf-8", "surrogatepass")), dict)
    return False
