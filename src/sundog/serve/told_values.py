"""The values of headers and fields that say who asks and how urgently.

Owns what can be read, and the refusal, by name, of what cannot. A value that is empty or blank says nothing.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NoReturn

from sundog.serve.wire.errors import Refusal

MAX_ID_CHARACTERS = 512


class ToldValues:
    """This class finds values by name: a header's, or that of a body's field, whose name has dots where it lies deeper
    (`body:nvext.agent_hints.osl`)."""

    def __init__(self, headers: Mapping[str, str], body: Mapping[str, Any]) -> None:
        self._headers = headers
        self._body = body

    def found(self, name: str) -> Any:
        """Return what a header or a field says; None where it says nothing."""
        path = _path(name)
        return _present(_inside(self._body, path) if path else self._headers.get(name))

    def first(self, names: tuple[str, ...]) -> tuple[str, Any]:
        """Return the first of the names that says something, and what it says; empty and None where none does."""
        for name in names:
            value = self.found(name)
            if value is not None:
                return name, value
        return "", None

    def first_id(self, names: tuple[str, ...]) -> tuple[str, str]:
        """Return the first of the names that says something, and the id; both empty where none does."""
        name, value = self.first(names)
        return name, "" if value is None else read_id(value, name)

    def first_number(self, names: tuple[str, ...], *, least: float, scale: float = 1.0) -> float | None:
        """Return the first number that is told, times `scale`; it is finite, and `least` or more."""
        name, value = self.first(names)
        if value is None:
            return None
        number = _number(value)
        if number is None or number < least:
            refuse_told(name, f"must be a number, {least:g} or more")
        return number * scale

    def first_whole(self, names: tuple[str, ...], *, least: int, most: int) -> tuple[str, int | None]:
        """Return the first whole number that is told, within bounds, and who tells it."""
        name, value = self.first(names)
        if value is None:
            return "", None
        number = _number(value)
        if number is None or number != int(number) or not least <= number <= most:
            refuse_told(name, f"must be a whole number from {least} to {most}")
        return name, int(number)

    def flag(self, name: str) -> bool:
        """Return a truth value; false where nothing is told."""
        value = self.found(name)
        if value is None:
            return False
        word = str(value).lower()
        if word not in _WORDS:
            refuse_told(name, "must be true or false")
        return _WORDS[word]


def read_id(value: Any, name: str) -> str:
    """Return an id; a refusal for what is too long, or holds characters that cannot be seen."""
    if not isinstance(value, str):
        refuse_told(name, "must be a text")
    if len(value) > MAX_ID_CHARACTERS:
        refuse_told(name, f"has {len(value)} characters, and an id has at most {MAX_ID_CHARACTERS}")
    if not value.isascii() or not value.isprintable():
        unseen = next((one for one in value if unicodedata.category(one) in ("Cc", "Cs")), None)
        if unseen is not None:
            refuse_told(name, "holds a control character or half of a character")
    return value


def refuse_told(name: str, what: str) -> NoReturn:
    """Raise the refusal of a header or a field."""
    plain = name.removeprefix("body:")
    kind = "the field" if plain != name else "the header"
    raise Refusal(400, f"{kind} '{plain}' {what}", param=plain, code="invalid_value", is_final=True)


_WORDS: Mapping[str, bool] = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@lru_cache(maxsize=256)
def _path(name: str) -> tuple[str, ...]:
    """Return the path of a field; that of a header is empty."""
    return tuple(name.removeprefix("body:").split(".")) if name.startswith("body:") else ()


def _inside(value: Any, path: tuple[str, ...]) -> Any:
    """Return what lies at a path; None where there is no such path."""
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _present(value: Any) -> Any:
    """Return a value that says something, a text without the blanks around it."""
    if isinstance(value, str):
        value = value.strip()
    return None if value is None or value == "" else value


def _number(value: Any) -> float | None:
    """Return a finite number, also one that is written as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not value.isascii():
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
