"""`/v1/embeddings` of engines that give vectors.

Owns both directions of this form. Never makes a vector.
"""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sundog.engines.embeddings import Embeddings, EmbedRequest
from sundog.serve.wire.body_fields import Fields, refuse_field, whole_string

MAX_TEXTS = 2048
_MOST_DIMENSIONS = 2**20


@dataclass(frozen=True, slots=True)
class EmbedCall:
    """One call of this form: the engine's request, and how its vectors are written."""

    request: EmbedRequest
    #: Vectors are little-endian numbers of 32 bits in base64, not lists of numbers.
    is_base64: bool


def embed_call(body: Mapping[str, Any], request_id: str) -> EmbedCall:
    """Return the call that a body asks for; Refusal where it is wrong."""
    fields = Fields(body)
    form = fields.one_of("encoding_format", ("float", "base64"))
    dimensions = fields.whole("dimensions", 1, _MOST_DIMENSIONS)
    request = EmbedRequest(request_id, _texts(fields.value("input")), dimensions)
    return EmbedCall(request, form == "base64")


def _texts(written: Any) -> tuple[str, ...]:
    items = written if isinstance(written, list) else [written]
    if any(isinstance(item, int | list) for item in items):
        refuse_field("this model reads texts, not tokens: send a text, or a list of texts", "input")
    if not 0 < len(items) <= MAX_TEXTS:
        refuse_field(f"'input' must be a text, or a list of 1 to {MAX_TEXTS} texts", "input")
    return tuple(whole_string(item, "input") for item in items)


def embeddings_answer(call: EmbedCall, found: Embeddings, model: str) -> dict[str, Any]:
    """Return the vectors in the order of the texts. `model`: the name by which it was asked for."""
    written = map(_base64, found.vectors) if call.is_base64 else map(list, found.vectors)
    num_tokens = found.usage.num_prompt_tokens
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": number, "embedding": vector} for number, vector in enumerate(written)
        ],
        "model": model,
        "usage": {"prompt_tokens": num_tokens, "total_tokens": num_tokens},
    }


def _base64(vector: Sequence[float]) -> str:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return base64.b64encode(numbers.tobytes()).decode("ascii")
