"""The prefix key of a prompt: what the scheduler compares instead of text.

Owns the block size and the hash. Never tokenizes: blocks are of characters, so that a key costs microseconds.
"""

from __future__ import annotations

from zlib import crc32

from sundog.engines.base import Message
from sundog.tokens import CHARACTERS_PER_TOKEN

PREFIX_BLOCK_TOKENS = 32
PREFIX_BLOCK_CHARACTERS = CHARACTERS_PER_TOKEN * PREFIX_BLOCK_TOKENS
"""About one KV block of English text."""


def prefix_key(prompt: tuple[Message, ...]) -> tuple[int, ...]:
    """Return one cumulative hash per full block of the prompt, roles included; a shorter common prefix is not seen."""
    return prefix_key_of("".join(f"{message.role}\n{message.text}\n" for message in prompt))


def prefix_key_of(text: str) -> tuple[int, ...]:
    """Return the same of a prompt that is one text."""
    key: list[int] = []
    value = 0
    for start in range(0, len(text) - PREFIX_BLOCK_CHARACTERS + 1, PREFIX_BLOCK_CHARACTERS):
        value = crc32(text[start : start + PREFIX_BLOCK_CHARACTERS].encode("utf-8", "surrogatepass"), value)
        key.append(value)
    return tuple(key)
