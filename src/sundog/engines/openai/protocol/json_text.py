"""JSON and text as they come from outside: whatever the bytes are, the result is a value or a ValueError.

Owns reading and showing them. Never knows what they mean.
"""

from __future__ import annotations

import json
from typing import Any

DONE = b"[DONE]"


class NestedTooDeeply(ValueError):
    """Raised for JSON that is nested more deeply than it can be read; caught by `answers`, which makes a BadResponse of
    it."""


def parse_json(data: bytes) -> Any:
    """Return the value; bytes that are no UTF-8 become U+FFFD. ValueError where it is no JSON, NestedTooDeeply where
    its lists and objects reach too far into each other."""
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except RecursionError:
        raise NestedTooDeeply("it is nested too deeply") from None


def is_event(data: bytes) -> bool:
    """Return whether `data` is one JSON value, or the end of a stream."""
    try:
        return data == DONE or parse_json(data) is not Ellipsis
    except ValueError:
        return False


def joined_pairs(text: str) -> str:
    """Return `text` with the halves of surrogate pairs joined; a half alone becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def shown_json(value: Any, max_characters: int) -> str:
    """Return text, or any other value as JSON, on one line for a message."""
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except RecursionError:
        text = "(nested too deeply to be shown)"
    return " ".join(joined_pairs(text[: 4 * max_characters]).split())[:max_characters]
