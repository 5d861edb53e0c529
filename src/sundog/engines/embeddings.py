"""Vectors of texts: what an engine that has them is asked for and gives.

Owns the request, the answer and the two contracts. Never makes a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from sundog.engines.base import Usage


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """One request for the vectors of some texts."""

    request_id: str
    #: At least one.
    texts: Sequence[str]
    #: The length of each vector; None leaves it to the model.
    dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The vectors of all texts of a request, in their order: finite numbers, and vectors of one length, which is the
    one that was asked for."""

    vectors: tuple[tuple[float, ...], ...]
    #: The tokens of the whole request; none of them are output.
    usage: Usage
    #: The tokens of each text, None where the engine tells those of the request only.
    num_tokens: tuple[int, ...] | None = None


@runtime_checkable
class EmbeddingEngine(Protocol):
    """A replica that gives vectors of texts."""

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Return one vector for each text. It fails as `Engine.generate` does, and BadResponse is also raised where the
        answer is not what Embeddings says. Cancelling it aborts the request."""
        ...


@runtime_checkable
class EmbeddingKind(Protocol):
    """A kind whose engines are EmbeddingEngines."""

    def has_embeddings(self, options: Any) -> bool:
        """Return whether engines of this block may be asked for vectors. The model itself may still have none."""
        ...

    def has_answers(self, options: Any) -> bool:
        """Return whether engines of this block may be asked for answers too."""
        ...
