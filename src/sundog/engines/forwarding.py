"""Engines that are servers of the OpenAI protocol, asked in its words: a request that came so goes on as it is.

Owns this contract. Never reads what is forwarded.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any, Protocol, TypeGuard, runtime_checkable

from sundog.engines.base import Engine
from sundog.transport.answer import StreamedAnswer


@runtime_checkable
class ForwardingEngine(Protocol):
    """An engine that takes bodies of the protocol."""

    @property
    def has_chat(self) -> bool:
        """Return whether it is asked at /chat/completions; else it has /completions only."""
        ...

    @property
    def model(self) -> str:
        """Return the name of the model, as the server knows it."""
        ...

    @property
    def added_fields(self) -> Mapping[str, Any]:
        """Return the fields that every body to this server has beside those of the client."""
        ...

    def forward(
        self, path: str, body: bytes, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[StreamedAnswer]:
        """Send a body to what is at `path` below the base URL, with `headers` beside the server's own. Entering gives
        the answer once its head is there: of success, or of a request that is wrong and would be so at any replica.
        EngineError for any other answer, and where none comes, also while its body is read."""
        ...


def is_forwarding(engine: Engine) -> TypeGuard[ForwardingEngine]:
    """Return whether an engine takes such bodies. Its class tells: to look at each engine anew would cost more than to
    parse a body."""
    return _is_forwarding(type(engine))


@cache
def _is_forwarding(kind: type[Engine]) -> bool:
    return all(hasattr(kind, member) for member in ("has_chat", "model", "added_fields", "forward"))
