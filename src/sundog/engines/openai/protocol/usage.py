"""Token counts as servers report them: absent, as text, as fractions, beyond any sense.

Owns which of them are believed, and what stands for the others. An answer is never given up for its counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sundog.engines.base import Usage
from sundog.tokens import CHARACTERS_PER_TOKEN

MAX_COUNT = 10**9
"""No request has as many tokens; a larger count is none."""


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts that a server has told so far; None where it has told none, or one that cannot be true."""

    num_prompt_tokens: int | None = None
    num_output_tokens: int | None = None
    num_cached_tokens: int | None = None

    def updated(self, written: Any) -> Counts:
        """Return the counts after one more `usage` of the stream; later ones count, known ones stay."""
        if not isinstance(written, dict):
            return self
        details = written.get("prompt_tokens_details")
        return Counts(
            _first(_count(written.get("prompt_tokens")), self.num_prompt_tokens),
            _first(_count(written.get("completion_tokens")), self.num_output_tokens),
            _first(_count(details.get("cached_tokens")) if isinstance(details, dict) else None, self.num_cached_tokens),
        )

    def usage(self, *, estimated_prompt_tokens: int, num_characters: int) -> Usage:
        """Return the usage of an answer of `num_characters`, estimated where nothing is known. Cached tokens beside
        the prompt's, as some servers count them, are unknown."""
        prompt, output, cached = self.num_prompt_tokens, self.num_output_tokens, self.num_cached_tokens
        if prompt is None or (cached is not None and cached > prompt):
            cached = None
        return Usage(
            estimated_prompt_tokens if prompt is None else prompt,
            math.ceil(num_characters / CHARACTERS_PER_TOKEN) if output is None else output,
            cached,
            is_estimated=prompt is None or output is None,
        )


def _first(new: int | None, old: int | None) -> int | None:
    return old if new is None else new


def _count(written: Any) -> int | None:
    if isinstance(written, str) and written.isascii() and written.isdigit() and len(written) < 16:
        written = int(written)
    if isinstance(written, bool) or not isinstance(written, int | float):
        return None
    if not 0 <= written <= MAX_COUNT or written != int(written):
        return None
    return int(written)
