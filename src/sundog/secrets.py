"""Secrets: `${env:NAME}` stays as it is in plans, keys, logs and stores; its value appears only at the call.

Owns reveal and redact. Never writes a value anywhere.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sundog.errors import ConfigError

PATTERN = re.compile(r"\$\{env:([A-Za-z_][A-Za-z0-9_]*)\}")
MIN_LENGTH = 6


def has_secret(text: str) -> bool:
    return PATTERN.search(text) is not None


class Secrets:
    """The values of the environment variables that a flow names."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._revealed = Redactor()

    def reveal(self, text: str) -> str:
        """Return `text` with every `${env:NAME}` replaced by its value; ConfigError when unset or too short to
        redact."""
        return PATTERN.sub(lambda match: self._value(match.group(1)), text)

    def set_in(self, text: str) -> dict[str, str]:
        """Return the variables that `text` names as `${env:NAME}`, with their values: those of them that are set."""
        return {name: self._environment[name] for name in PATTERN.findall(text) if name in self._environment}

    def reveal_all(self, value: Any) -> Any:
        """Return the same, in every string of nested mappings and lists."""
        return self._map(value, self.reveal)

    def redact(self, text: str) -> str:
        """Return `text` with every value revealed so far replaced by its `${env:NAME}`, in whatever spelling."""
        return self._revealed.redact(text)

    def redact_all(self, value: Any) -> Any:
        return self._map(value, self.redact) if self._revealed.has_values else value

    def _value(self, name: str) -> str:
        value = self._environment.get(name)
        if value is None:
            raise ConfigError(f"the environment variable {name} is not set", hint=f"export {name}=... and run again")
        if len(value) < MIN_LENGTH:
            raise ConfigError(
                f"the value of {name} is too short to be kept out of logs ({len(value)} characters)",
                hint=f"secrets have at least {MIN_LENGTH} characters; write other settings as constants",
            )
        self._revealed.add(value, f"${{env:{name}}}")
        return value

    def _map(self, value: Any, change: Callable[[str], str]) -> Any:
        match value:
            case str():
                return change(value)
            case Mapping():
                return {self._map(key, change): self._map(item, change) for key, item in value.items()}
            case list() | tuple():
                return type(value)(self._map(item, change) for item in value)
        return value


class Redactor:
    """Values that no text may show, each with what takes its place."""

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._spellings: list[Spelling] = []

    @property
    def has_values(self) -> bool:
        return bool(self._values)

    def add(self, value: str, shown: str) -> None:
        """Hide `value` from now on; nothing happens where it is known already."""
        if value in self._values:
            return
        self._values.add(value)
        # Longest first: one value may be a part of another.
        spellings = [*self._spellings, *_spellings(value, shown)]
        self._spellings = sorted(spellings, key=lambda one: one.num_characters, reverse=True)

    def redact(self, text: str) -> str:
        """Return `text` without the values, in whatever spelling a library writes: as they are, in URLs, JSON and HTML,
        inside one another too, and in the base64 of a header."""
        for spelling in self._spellings:
            if spelling.anchor in text:
                text = _pattern(spelling.written).sub(spelling.shown, text)
        return text


@dataclass(frozen=True, slots=True)
class Spelling:
    """One way in which a secret value may be written."""

    #: The value, or base64 that holds it.
    written: str
    #: Text that is in every text that holds a spelling of it; most texts are done with a search for that.
    anchor: str
    #: The text that takes its place, with its backslashes escaped.
    shown: str
    #: Characters of the value.
    num_characters: int


def _spellings(value: str, shown: str) -> Iterator[Spelling]:
    """Yield a value in texts, and inside the base64 of any longer text, as in the header of basic authentication."""
    for one in dict.fromkeys((value, *_inside_base64(value))):
        yield Spelling(one, _anchor(one), shown.replace("\\", r"\\"), len(value))


def _inside_base64(value: str) -> Iterator[str]:
    """Yield the characters of base64 that `value` alone decides, for the three places at which it may begin."""
    data = value.encode("utf-8", "surrogateescape")
    for shift in range(3):
        encoded = b64encode(b"\0" * shift + data).decode()
        first, num_whole = -(-shift * 4 // 3), (shift + len(data)) * 4 // 3
        yield encoded[first:num_whole]
        yield encoded[first:num_whole].replace("+", "-").replace("/", "_")


def _anchor(value: str) -> str:
    """Return the longest part that has one spelling only."""
    parts: list[str] = re.findall("[A-Za-z0-9]*", value)
    return max(parts, key=len)


@lru_cache(maxsize=256)
def _pattern(value: str) -> re.Pattern[str]:
    """Return the pattern; it is made when first needed: it takes milliseconds."""
    parts = re.findall(r"[A-Za-z0-9]+|\\+|.", value, re.S)
    return re.compile(f"{''.join(map(_spelled, parts))}|{re.escape(value)}")


_ESCAPED = {"\n": "n", "\t": "t", "\r": "r", "\b": "b", "\f": "f"}
_AFTER_BACKSLASH = r"(?:(?<=\\)|(?<=%5[cC]))"


def _spelled(part: str) -> str:
    """A run of letters and digits has one spelling; any other character may be escaped in several ways at once. The
    possessive repetitions keep a search linear in the text."""
    if part.isascii() and part.isalnum():
        return part
    if part[0] == "\\":
        return rf"(?:\\|{_in_url(part[0])}|{_in_html(part[0])}){{{len(part)},}}+"
    after = [r"(?:\\|%5[cC])++".join(_in_any_case(f"u{unit:04x}") for unit in _utf16(part))]
    if ord(part) > 0xFFFF:
        after.append(_in_any_case(f"U{ord(part):08x}"))
    if ord(part) < 256:
        after.append(_in_any_case(f"x{ord(part):02x}"))
    if part in _ESCAPED:
        after.append(_ESCAPED[part])
    ways = [_in_url(part), _in_html(part), rf"{_AFTER_BACKSLASH}(?:{'|'.join(after)})", re.escape(part)]
    if part == " ":
        ways.append(r"\+")
    return rf"(?:\\|%5[cC])*+(?:{'|'.join(ways)})"


def _in_url(character: str) -> str:
    """Return a character escaped once or, where one URL stands inside another, up to four times."""
    data = character.encode("utf-8", "surrogateescape")
    return "".join("%(?:25){0,3}" + _in_any_case(f"{byte:02x}") for byte in data)


def _in_html(character: str) -> str:
    number = ord(character)
    names = "".join(f"|{name[:-1]}" for name in _entities().get(character, ()))
    return f"&(?:amp;){{0,3}}(?:#0{{0,6}}{number}|#[xX]0{{0,6}}{_in_any_case(f'{number:x}')}{names});"


@lru_cache(maxsize=1)
def _entities() -> dict[str, list[str]]:
    """Return the names of HTML by the one character for which each stands."""
    from html.entities import html5  # a table that most runs never need

    found: dict[str, list[str]] = {}
    for name, text in html5.items():
        if len(text) == 1 and name.endswith(";"):
            found.setdefault(text, []).append(name)
    return found


def _utf16(character: str) -> list[int]:
    data = character.encode("utf-16-be", "surrogatepass")
    return [data[i] << 8 | data[i + 1] for i in range(0, len(data), 2)]


def _in_any_case(text: str) -> str:
    """Return a pattern with hexadecimal digits as small and as large letters; the letter before them stays as it is."""
    return "".join(f"[{one}{one.upper()}]" if one in "abcdef" else one for one in text)
