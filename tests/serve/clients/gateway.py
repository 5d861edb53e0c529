"""The gateway that a client is tried on, as far as a test knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"],
    "additionalProperties": False,
}
MAX_TOKENS = 80


@dataclass(frozen=True)
class Gateway:
    """A server with one model."""

    address: str
    model: str
