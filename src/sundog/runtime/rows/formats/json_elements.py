"""The elements of an array in a JSON document, one after the other, as they are written.

Owns the search for the array and where its elements begin and end. Never holds the document, and never checks what an
element is: json_line does. What stands beside the array is read only as far as its brackets go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from sundog.errors import InputError
from sundog.runtime.rows.duck import MAX_LINE_BYTES
from sundog.runtime.rows.failures import too_long
from sundog.runtime.rows.paths import UNREADABLE, InputFiles, open_bytes

CHUNK_BYTES = 1 << 20
# A quote alone is a text that goes on in the next chunk.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},:"]', re.DOTALL)
_TO_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+([\[\]{}])', re.DOTALL)
_LINE_ENDS = re.compile(rb'("(?:[^"\\]++|\\.)*+")|[\r\n]+', re.DOTALL)
_BRACKETS = frozenset({b"[", b"]", b"{", b"}", b""})
_MAX_SHOWN_KEYS = 8


class NoArray(Exception):
    """Raised where no array stands at the place that was named, with a text that says what does; caught in this module,
    which makes an InputError of it."""


class TooLong(Exception):
    """Raised with the number, from 1, of an element that is longer than a line may be; caught in this module, which
    makes an InputError of it."""


def as_lines(files: InputFiles, at: str | None, scratch_dir: Path) -> InputFiles:
    """Return `files`, JSON documents, as files of one element a line in `scratch_dir`. `at`: where the array is, as in
    "items.rows", None for the whole document. InputError where it is not there."""
    copies = []
    for index, path in enumerate(files.paths):
        copy = scratch_dir / f"{files.name}-elements-{index}.jsonl"
        _copy(files, path, tuple(at.split(".")) if at else (), copy)
        copies.append(copy)
    return replace(files, paths=tuple(copies), format="jsonl", written_from=files.paths)


def elements(document: BinaryIO, at: Sequence[str]) -> Iterator[bytes]:
    """Yield the text of each element; NoArray, TooLong, and whatever reading raises."""
    tokens = _Tokens(document)
    _find(tokens, at)
    yield from _elements(tokens)
    _read_to_end(tokens, num_open=len(at))


def _copy(files: InputFiles, path: Path, at: Sequence[str], copy: Path) -> None:
    where = files.show(path)
    try:
        with open_bytes(path) as document, copy.open("wb") as lines:
            for element in elements(document, at):
                lines.write(_LINE_ENDS.sub(lambda found: found[1] or b" ", element) + b"\n")
    except NoArray as error:
        raise InputError(
            str(error), where=where, hint="a .json file is an array of objects; `at: items.rows` names one inside"
        ) from error
    except TooLong as error:
        raise too_long(f"{where}: element {error}") from error
    except UNREADABLE as error:
        hint = "it may be damaged; write it again"
        raise InputError(f"cannot read the file: {error}", where=where, hint=hint) from error


class _Tokens:
    """Brackets, commas, colons and texts of a document. `mark`: where what is to be kept begins."""

    def __init__(self, document: BinaryIO) -> None:
        self._document = document
        self._buffer = document.read(CHUNK_BYTES).removeprefix(b"\xef\xbb\xbf")
        self._at = 0
        self._mark: int | None = None

    def next(self) -> bytes:
        """Return the next one; NoArray where the document ends in its middle, empty at the end."""
        while True:
            found = _TOKEN.search(self._buffer, self._at)
            if found is not None and found[0] != b'"':
                self._at = found.end()
                return found[0]
            self._at = len(self._buffer) if found is None else found.start()
            if not self._read_on():
                if found is not None:
                    raise NoArray("the document ends inside a text: it is cut off, or a quote is missing")
                return b""

    def next_bracket(self) -> bytes:
        """Return the next one that is a bracket, faster; empty at the end."""
        while (found := _TO_BRACKET.match(self._buffer, self._at)) is None:
            if not self._read_on():
                while (token := self.next()) not in _BRACKETS:
                    """What is left ends before a bracket, or inside a text."""
                return token
        self._at = found.end()
        return found[1]

    def begins_with(self, brackets: bytes) -> bool:
        text = self._buffer.lstrip()
        return bool(text) and text[:1] in brackets

    def is_at_end(self) -> bool:
        """Return whether nothing but white space is left."""
        while not self._buffer[self._at :].strip():
            self._at = len(self._buffer)
            if not self._read_on():
                return True
        return False

    def keep(self) -> None:
        self._mark = self._at

    def release(self) -> None:
        self._mark = None

    def kept(self) -> bytes:
        """Return what stands between `keep` and the last token."""
        assert self._mark is not None
        return self._buffer[self._mark : self._at - 1]

    @property
    def num_kept_bytes(self) -> int:
        return 0 if self._mark is None else len(self._buffer) - self._mark

    def _read_on(self) -> bool:
        chunk = self._document.read(CHUNK_BYTES)
        first = self._at if self._mark is None else self._mark
        self._buffer = self._buffer[first:] + chunk
        self._at -= first
        self._mark = None if self._mark is None else 0
        return bool(chunk)


def _find(tokens: _Tokens, at: Sequence[str]) -> None:
    """Read up to and with the bracket that opens the array at `at`."""
    if not tokens.begins_with(b"[{"):
        raise NoArray("this is no JSON array of objects")
    for number, key in enumerate(at):
        opening = tokens.next()
        if opening != b"{":
            raise NoArray(f"there is no object at {_show(at[:number])}, but {_kind(opening)}")
        _find_key(tokens, at[:number], key)
    opening = tokens.next()
    if opening == b"{":
        keys = ", ".join(_keys(tokens))
        raise NoArray(f"there is an object at {_show(at)}, not an array; its keys: {keys or 'none'}")
    if opening != b"[":
        raise NoArray(f"there is no array at {_show(at)}, but {_kind(opening)}")


def _find_key(tokens: _Tokens, before: Sequence[str], wanted: str) -> None:
    seen = []
    for key in _keys(tokens):
        if key == wanted:
            return
        seen.append(key)
    shown = ", ".join(seen[:_MAX_SHOWN_KEYS]) or "none"
    raise NoArray(f"there is no '{wanted}' at {_show(before)}; the keys there: {shown}")


def _keys(tokens: _Tokens) -> Iterator[str]:
    """Yield the keys of the object that has been opened; the next token is the first of the key's value."""
    depth, last = 1, b""
    while depth and (token := tokens.next()):
        if token == b":" and depth == 1:
            with suppress(ValueError):
                yield str(json.loads(last))
        depth += (token in b"[{") - (token in b"]}")
        last = token


def _elements(tokens: _Tokens) -> Iterator[bytes]:
    depth, number = 0, 1
    tokens.keep()
    while token := tokens.next_bracket() if depth else tokens.next():
        if token in b"[{":
            depth += 1
        elif token in b"]}" and depth:
            depth -= 1
        elif depth == 0 and token in b",]":
            text = tokens.kept().strip()
            if text:
                yield text
            elif token == b"," or number > 1:
                raise NoArray(f"element {number} of the array is missing: there is a comma too many")
            if token == b"]":
                tokens.release()
                return
            number += 1
            tokens.keep()
        if tokens.num_kept_bytes > MAX_LINE_BYTES + CHUNK_BYTES:
            raise TooLong(number)
    raise NoArray("the document ends inside the array: it is cut off, or a bracket is missing")


def _read_to_end(tokens: _Tokens, num_open: int) -> None:
    """Close what the path to the array has opened. What follows the document, another array say, would be lost."""
    while num_open:
        token = tokens.next_bracket()
        if not token:
            raise NoArray("the document ends before its brackets are closed: it is cut off")
        num_open += (token in b"[{") - (token in b"]}")
    if not tokens.is_at_end():
        raise NoArray("something follows the end of the document; of several documents in a file each is an own file")


def _show(at: Sequence[str]) -> str:
    return f"'{'.'.join(at)}'" if at else "the top"


def _kind(token: bytes) -> str:
    return "an array" if token == b"[" else "an object" if token == b"{" else "a single value"
