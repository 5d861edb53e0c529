"""The fields of a request's body, read by their types.

Owns what a wrong value is answered with: a refusal that names the field by its path. A field that is null is absent.
Never knows what a field means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from sundog.ir.values.normal_form import whole_text
from sundog.serve.wire.errors import Refusal


def refuse_field(what: str, param: str, code: str | None = None) -> NoReturn:
    """Raise the refusal of a request whose field `param` is wrong."""
    raise Refusal(400, what, param=param or None, code=code, is_final=True)


class Fields:
    """This class reads one object of a body; `path` is its own place there, empty for the body itself."""

    def __init__(self, body: Any, path: str = "") -> None:
        if not isinstance(body, Mapping):
            refuse_field(f"{_named(path)} must be an object, not {_kind(body)}", path)
        self._body = body
        self.path = path

    def place(self, name: str) -> str:
        """Return the path of a field, as refusals name it."""
        return f"{self.path}.{name}" if self.path else name

    def value(self, name: str) -> Any:
        """Return what the body says, None where it says nothing."""
        return self._body.get(name)

    def text(self, name: str) -> str | None:
        """Return a text, None where there is none."""
        value = self.value(name)
        return None if value is None else whole_string(value, self.place(name))

    def needed_text(self, name: str) -> str:
        """Return a text that must be there and hold something."""
        found = self.text(name)
        if not found:
            refuse_field(f"'{self.place(name)}' must be a text that is not empty", self.place(name))
        return found

    def flag(self, name: str, default: bool) -> bool:
        """Return a truth value, `default` where there is none."""
        value = self.value(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            refuse_field(f"'{self.place(name)}' must be true or false, not {_kind(value)}", self.place(name))
        return value

    def whole(self, name: str, least: int, most: int) -> int | None:
        """Return a whole number within bounds, both included; None where there is none."""
        value = self.value(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            refuse_field(f"'{self.place(name)}' must be a whole number from {least} to {most}", self.place(name))
        return value

    def number(self, name: str, least: float, most: float) -> float | None:
        """Return a number within bounds, both included; None where there is none."""
        value = self.value(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            refuse_field(f"'{self.place(name)}' must be a number from {least:g} to {most:g}", self.place(name))
        return value

    def one_of(self, name: str, allowed: Sequence[str]) -> str | None:
        """Return a text that is one of `allowed`; None where there is none."""
        found = self.text(name)
        if found is not None and found not in allowed:
            refuse_field(f"'{self.place(name)}' must be one of {', '.join(allowed)}", self.place(name))
        return found

    def inner(self, name: str) -> Fields:
        """Return the fields of the object that a field is."""
        return Fields(self.value(name), self.place(name))

    def objects(self, name: str) -> list[Fields]:
        """Return the objects of a list; none where there is no list."""
        value = self.value(name)
        if value is None:
            return []
        if not isinstance(value, list):
            refuse_field(f"'{self.place(name)}' must be a list, not {_kind(value)}", self.place(name))
        return [Fields(item, f"{self.place(name)}[{number}]") for number, item in enumerate(value)]


def whole_string(value: Any, place: str) -> str:
    """Return a text without halves of surrogate pairs; a refusal for any other value."""
    if not isinstance(value, str):
        refuse_field(f"{_named(place)} must be a text, not {_kind(value)}", place)
    return whole_text(value)


def _named(place: str) -> str:
    return f"'{place}'" if place else "the body"


_KINDS: Mapping[type, str] = {
    bool: "a truth value",
    dict: "an object",
    float: "a number",
    int: "a number",
    list: "a list",
    str: "a text",
    type(None): "null",
}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)
