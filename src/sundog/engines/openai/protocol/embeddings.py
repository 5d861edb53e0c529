"""Vectors on the wire: the body of a request to `/embeddings`, and the reading of its answer.

Owns what counts as an answer. Never opens a connection.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sundog.engines.base import Usage
from sundog.engines.embeddings import Embeddings, EmbedRequest
from sundog.engines.openai.protocol.failures import error_told
from sundog.engines.openai.protocol.json_text import parse_json, shown_json
from sundog.errors import BadResponse
from sundog.tokens import CHARACTERS_PER_TOKEN

EMBEDDINGS_PATH = "/embeddings"
MAX_VECTORS_BYTES = 128 * 2**20
"""The bound of an answer: 256 vectors of 16,384 numbers have less."""
_OURS = frozenset({"model", "input", "encoding_format", "dimensions"})
_MAX_SHOWN = 200


def embeddings_body(request: EmbedRequest, model: str, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a request. No field of `extra` replaces one that says what is asked for."""
    body: dict[str, Any] = {"model": model, "input": list(request.texts), "encoding_format": "float"}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return {**{name: value for name, value in extra.items() if name not in _OURS}, **body}


def read_embeddings(data: bytes, request: EmbedRequest) -> Embeddings:
    """Return what an answer with status 200 says; EngineError where it is none, or not one for each text."""
    try:
        answer = parse_json(data)
    except ValueError as error:
        raise _bad(f"what is not JSON: {_start_of(data)}") from error
    if not isinstance(answer, dict):
        raise _bad(f"JSON that is not an object: {_start_of(data)}")
    entries = answer.get("data")
    if not isinstance(entries, list):
        if answer.get("error") or answer.get("message") or answer.get("detail"):
            raise error_told(answer)
        raise _bad(f"no vectors but: {_start_of(data)}")
    vectors = tuple(_vector(entry, request.dimensions) for entry in _in_order(entries, len(request.texts)))
    if len({len(vector) for vector in vectors}) > 1:
        raise _bad("vectors of different lengths for one request")
    return Embeddings(vectors, _usage(answer.get("usage"), request.texts))


def _in_order(entries: Sequence[Any], num_texts: int) -> list[Any]:
    """Return the entries in the order of the texts, which their `index` tells; some servers leave all of them out."""
    if len(entries) != num_texts:
        raise _bad(f"{len(entries):,} vectors for {num_texts:,} texts")
    if not all(isinstance(entry, dict) for entry in entries):
        raise _bad("vectors that are no objects")
    if all(entry.get("index") is None for entry in entries):
        return list(entries)
    by_index = {entry.get("index"): entry for entry in entries if type(entry.get("index")) is int}
    if by_index.keys() != set(range(num_texts)):
        raise _bad("vectors whose `index` does not name each text once")
    return [by_index[index] for index in range(num_texts)]


def _vector(entry: Mapping[str, Any], dimensions: int | None) -> tuple[float, ...]:
    numbers = entry.get("embedding")
    if isinstance(numbers, str):
        raise _bad("a vector as text, where numbers were asked for", retryable=False)
    if not isinstance(numbers, list) or not numbers:
        raise _bad(f"an entry without a vector: {shown_json(entry, _MAX_SHOWN)}")
    if not all(type(number) in (int, float) for number in numbers):
        raise _bad("a vector that holds what is no number")
    try:
        vector = tuple(map(float, numbers))
    except OverflowError:
        vector = (math.inf,)
    if not all(map(math.isfinite, vector)):
        raise _bad("a vector that holds a number without end, or NaN")
    if dimensions is not None and len(vector) != dimensions:
        raise BadResponse(
            f"the server sent a vector of {len(vector):,} numbers, and {dimensions:,} were asked for",
            hint="see which `dimensions` the model has; many models have one length only",
        )
    return vector


def _usage(told: Any, texts: Sequence[str]) -> Usage:
    number = told.get("prompt_tokens") if isinstance(told, dict) else None
    if type(number) is int and number >= 0:
        return Usage(number, 0)
    return Usage(sum(len(text) // CHARACTERS_PER_TOKEN + 1 for text in texts), 0, is_estimated=True)


def _start_of(data: bytes) -> str:
    return repr(shown_json(data[: 4 * _MAX_SHOWN].decode("utf-8", "replace"), _MAX_SHOWN))


def _bad(what: str, *, retryable: bool = True) -> BadResponse:
    return BadResponse(f"the server sent {what}", retryable=retryable)
