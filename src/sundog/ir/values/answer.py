"""The value of an LLM step with what it took: templates may read that too, though it is no part of the value.

Owns the carrier. Whoever copies the value, or writes it as JSON, leaves the usage behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Answer(dict[str, Any]):
    """A mapping, equal to the one that it is made of, whose `usage` templates read as if it were a field."""

    __slots__ = ("usage",)

    def __init__(self, value: Mapping[str, Any], usage: Mapping[str, int]) -> None:
        super().__init__(value)
        #: The `prompt_tokens` and `output_tokens` of the request that gave the answer.
        self.usage = usage
