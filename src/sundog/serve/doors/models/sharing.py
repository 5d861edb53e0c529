"""This module tells which calls of models are equal, and so have one answer in common.

Owns the key. A call is shared where its answer is a function of its request: a greedy one, or one for vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from sundog.ir.values.canonical import canonical_json

_OF_THE_CALLER = frozenset(
    {
        *("model", "stream", "stream_options", "user", "metadata", "store", "service_tier", "priority"),
        *("prompt_cache_key", "safety_identifier", "session_id", "program_id", "request_id", "nvext"),
    }
)
"""Fields that say who asks, and how the answer is sent, and change nothing in it. `cache_salt` is none of them: its
client wishes that nobody without it can tell, by the time of an answer, what was asked."""


def sharing_key(path: str, body: Mapping[str, Any], identity: Mapping[str, Any]) -> bytes | None:
    """Return 16 bytes, equal for calls that have one answer; None for a call whose answer is its own. `identity`: what
    decides the answers of the engine.

    >>> ask = {"messages": [{"role": "user", "content": "hi"}], "temperature": 0}
    >>> key = sharing_key("/chat/completions", ask, {"model": "m"})
    >>> key == sharing_key("/chat/completions", {**ask, "user": "another"}, {"model": "m"})
    True
    >>> sharing_key("/chat/completions", {**ask, "temperature": 1}, {"model": "m"}) is None
    True
    """
    if path != "/embeddings" and not _is_greedy(body):
        return None
    asked = {name: value for name, value in body.items() if name not in _OF_THE_CALLER}
    try:
        return blake2b(canonical_json(["gateway", path, asked, identity]), digest_size=16).digest()
    except (TypeError, ValueError):
        # What has no canonical form is refused by the engine.
        return None


def _is_greedy(body: Mapping[str, Any]) -> bool:
    return body.get("temperature") == 0 and body.get("n", 1) in (1, None) and not body.get("best_of")
