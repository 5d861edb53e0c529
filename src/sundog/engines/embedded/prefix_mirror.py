"""This module computes which prompt tokens a prefix cache holds, beside an engine that does not tell.

Owns a mirror of the cache's full blocks. Never decides anything: it only counts.

The count is computed, not measured. It is a lower bound while nothing is evicted (the engine may also reuse a partly
filled block), and an estimate after that: blocks of running requests are not told from idle ones here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

# About 40 MB of keys.
MAX_SEEN_BLOCKS = 1 << 19


class PrefixMirror:
    """This class mirrors which prompts a prefix cache holds. `num_blocks` blocks of `block_tokens` tokens, least
    recently used evicted first. `see` tells what a cache with room for everything would hold."""

    def __init__(self, block_tokens: int, num_blocks: int) -> None:
        self.block_tokens = block_tokens
        self.num_blocks = num_blocks
        self._blocks: OrderedDict[int, None] = OrderedDict()
        self._seen: set[int] = set()

    def see(self, prompt: Sequence[int]) -> int | None:
        """Return `num_cached_tokens` as of a cache that never evicts and has every prompt since it came; None once
        there were more than MAX_SEEN_BLOCKS."""
        if len(self._seen) > MAX_SEEN_BLOCKS:
            return None
        num_seen = 0
        for key in self.keys(prompt):
            num_seen += key in self._seen
            self._seen.add(key)
        return min(num_seen * self.block_tokens, len(prompt) - 1)

    def num_cached_tokens(self, prompt: Sequence[int]) -> int:
        """Return the number of tokens of `prompt` that need no computing; the last one always does, to give the first
        output token."""
        num_hit = 0
        for key in self.keys(prompt):
            if key not in self._blocks:
                break
            self._blocks.move_to_end(key)
            num_hit += 1
        return min(num_hit * self.block_tokens, len(prompt) - 1)

    def add(self, tokens: Sequence[int]) -> None:
        """The full blocks of `tokens` have been computed."""
        for key in self.keys(tokens):
            if len(self._seen) <= MAX_SEEN_BLOCKS:
                self._seen.add(key)
            self._blocks[key] = None
            self._blocks.move_to_end(key)
        while len(self._blocks) > self.num_blocks:
            self._blocks.popitem(last=False)

    def keys(self, tokens: Sequence[int]) -> Iterator[int]:
        """Return one key per full block; it stands for the block and all before it."""
        key = 0
        for end in range(self.block_tokens, len(tokens) + 1, self.block_tokens):
            key = hash((key, *tokens[end - self.block_tokens : end]))
            yield key
