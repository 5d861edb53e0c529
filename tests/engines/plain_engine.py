"""An engine and its kind in which nothing but the answers is left to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sundog.engines.base import (
    Capabilities,
    EngineOptions,
    EngineOutline,
    EngineStats,
    GenerateRequest,
    Message,
)

PROMPT_TOKENS = 10


class PlainEngine:
    """It has no limits, and each prompt has PROMPT_TOKENS."""

    async def start(self) -> None: ...

    def capabilities(self) -> Capabilities:
        return Capabilities(None, None, False, False, False)

    def stats(self) -> EngineStats:
        return EngineStats()

    def count_prompt_tokens(self, request: GenerateRequest) -> int:
        return PROMPT_TOKENS

    async def close(self) -> None: ...


class PlainKind:
    """It has one replica, which loads at once."""

    Options = EngineOptions

    def identity(self, options: EngineOptions) -> Mapping[str, Any]:
        return {"model": options.model}

    def num_replicas(self, options: EngineOptions) -> int:
        return 1

    def outline(self, options: EngineOptions) -> EngineOutline:
        def count(messages: Sequence[Message]) -> int:
            return PROMPT_TOKENS

        return EngineOutline(count, 0.0, None, None, None)
