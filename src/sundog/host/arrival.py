"""The facts of a prompt that the core is told: how long it is, and where prompts may share what is computed.

Owns the estimate for an engine that no worker has loaded yet. Never looks at what a prompt says.
"""

from __future__ import annotations

from sundog.engines.base import Engine, GenerateRequest, Message
from sundog.host.prefix_key import prefix_key
from sundog.tokens import CHARACTERS_PER_TOKEN


def prompt_tokens(engine: Engine | None, request_id: str, prompt: tuple[Message, ...]) -> int:
    """Return the prompt's tokens, an estimate without an engine."""
    if engine is not None:
        return engine.count_prompt_tokens(GenerateRequest(request_id, prompt))
    num_characters = sum(len(message.text) for message in prompt)
    return num_characters // CHARACTERS_PER_TOKEN + 1 + sum(message.num_part_tokens for message in prompt)


def shared_prefix(engine: Engine | None, prompt: tuple[Message, ...]) -> tuple[int, ...]:
    """Return the prompt's prefix key; empty where the engine keeps no prefixes."""
    has_cache = engine is None or engine.capabilities().has_prefix_cache
    return prefix_key(prompt) if has_cache else ()
