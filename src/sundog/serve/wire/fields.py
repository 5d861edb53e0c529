"""The fields of a request's body, read with a refusal for each that has the wrong form.

Owns the types of fields. Never knows what a field means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sundog.engines.openai.protocol.json_text import shown_json
from sundog.serve.wire.errors import wrong_request

T = TypeVar("T")

MAX_SHOWN_CHARACTERS = 80


def shown_field(value: Any) -> str:
    """Return a value of a request as a message shows it."""
    text = shown_json(value, MAX_SHOWN_CHARACTERS)
    return f"'{text}'" if isinstance(value, str) else text


def object_at(value: Any, param: str) -> dict[str, Any]:
    """Return `value`, which is a JSON object; a refusal for any other."""
    if isinstance(value, dict):
        return value
    raise _wrong_form(value, param, "an object")


def list_at(value: Any, param: str) -> list[Any]:
    """Return `value`, which is a list; a refusal for any other."""
    if isinstance(value, list):
        return value
    raise _wrong_form(value, param, "a list")


def text_at(value: Any, param: str) -> str:
    """Return `value`, which is text; a refusal for any other."""
    if isinstance(value, str):
        return value
    raise _wrong_form(value, param, "text")


def word_at(value: Any, param: str) -> str:
    """Return `value`, which is text and not empty; a refusal for any other."""
    if isinstance(value, str) and value:
        return value
    raise _wrong_form(value, param, "text that is not empty")


def truth_at(value: Any, param: str) -> bool:
    """Return `value`, which is true or false; a refusal for any other."""
    if isinstance(value, bool):
        return value
    raise _wrong_form(value, param, "true or false")


def count_at(value: Any, param: str) -> int:
    """Return `value`, which is a whole number above zero; a refusal for any other."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    raise _wrong_form(value, param, "a whole number above zero")


def optional(read: Callable[[Any, str], T], value: Any, param: str) -> T | None:
    """Return what `read` makes of `value`; None for null, which is how clients write a field that they leave out."""
    return None if value is None else read(value, param)


def _wrong_form(value: Any, param: str, form: str) -> Exception:
    if value is None:
        return wrong_request(param, f"it is missing, and has to be {form}")
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    found = "empty text" if value == "" else names.get(type(value), type(value).__name__)
    return wrong_request(param, f"it has to be {form}, not {found}")
