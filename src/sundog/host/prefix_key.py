"""The prefix key of a prompt: what the scheduler compares instead of text.

Owns the block size and the hash. Never tokenizes: blocks are of characters, so that a key costs microseconds.
"""

from __future__ import annotations

from zlib import crc32

from sundog.engines.base import Message

BLOCK_TOKENS = 32
BLOCK_CHARACTERS = 4 * BLOCK_TOKENS
"""About one KV block of English text."""


def prefix_key(prompt: tuple[Message, ...]) -> tuple[int, ...]:
    """One cumulative hash per full block of the prompt, roles included; a shorter common prefix is not seen."""
    text = "".join(f"{message.role}\n{message.content}\n" for message in prompt)
    key: list[int] = []
    value = 0
    for start in range(0, len(text) - BLOCK_CHARACTERS + 1, BLOCK_CHARACTERS):
        value = crc32(text[start : start + BLOCK_CHARACTERS].encode("utf-8", "surrogatepass"), value)
        key.append(value)
    return tuple(key)
