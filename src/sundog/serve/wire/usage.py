"""Tokens and other facts of an answer as OpenAI's forms have them.

Owns what is told of a request's tokens. Never counts any.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sundog.engines.base import Usage


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """The facts that stand in each chunk of an answer."""

    id: str
    #: Seconds since 1970.
    created: int
    #: The name by which the model was asked for.
    model: str


def usage_body(usage: Usage) -> dict[str, Any]:
    """Return the tokens of a request; those from a prefix cache only where the engine tells them."""
    body: dict[str, Any] = {
        "prompt_tokens": usage.num_prompt_tokens,
        "completion_tokens": usage.num_output_tokens,
        "total_tokens": usage.num_prompt_tokens + usage.num_output_tokens,
    }
    if usage.num_cached_tokens is not None:
        body["prompt_tokens_details"] = {"cached_tokens": usage.num_cached_tokens}
    return body
