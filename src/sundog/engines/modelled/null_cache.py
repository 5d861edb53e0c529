"""The modelled KV cache of the null engine: blocks with owners, prefixes kept until their room is needed.

Owns the block table and its eviction, as vLLM keeps them: least recently freed first, of one request its last block
first. Never knows time or steps.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count


@dataclass(slots=True)
class Held:
    """The blocks of one request, in order; `num_cached_tokens` of them held its prompt before."""

    keys: list[Hashable]
    num_cached_tokens: int
    num_tokens: int


@dataclass(slots=True)
class BlockTable:
    """`num_blocks` of `block_tokens` tokens. A block is known by all text up to its end, or by nobody."""

    num_blocks: int
    block_tokens: int
    _owners: dict[Hashable, int] = field(default_factory=dict)
    _idle: OrderedDict[Hashable, None] = field(default_factory=OrderedDict)
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def num_available(self) -> int:
        """Blocks that nobody uses, whether they hold a prefix or not."""
        return self.num_blocks - len(self._owners)

    def take(self, prompt_keys: Sequence[int], num_tokens: int) -> Held | None:
        """Room for a prompt; None when there is not enough. `prompt_keys`: of its full blocks."""
        num_hit = 0
        while num_hit < len(prompt_keys) and self._has(prompt_keys[num_hit]):
            num_hit += 1
        hit = prompt_keys[:num_hit]
        num_new = -(-num_tokens // self.block_tokens) - num_hit
        if num_new > self.num_available - sum(key in self._idle for key in hit):
            return None
        # Two requests may compute the same text at the same time; then one of them has it to itself.
        fresh: list[Hashable] = [self._name(key) for key in prompt_keys[num_hit:]]
        fresh += [self._name() for _ in range(num_new - len(fresh))]
        keys: list[Hashable] = [*hit, *fresh]
        for key in keys:
            self._own(key)
        return Held(keys, min(num_hit * self.block_tokens, num_tokens - 1), num_tokens)

    def extend(self, held: Held) -> bool:
        """Room for one more token; False when there is none."""
        if held.num_tokens % self.block_tokens == 0:
            if self.num_available == 0:
                return False
            key = self._name()
            self._own(key)
            held.keys.append(key)
        held.num_tokens += 1
        return True

    def free(self, held: Held) -> None:
        """Its blocks stay as prefixes while there is room."""
        for key in reversed(held.keys):
            self._owners[key] -= 1
            if self._owners[key] == 0:
                del self._owners[key]
                self._idle[key] = None

    def _has(self, key: Hashable) -> bool:
        return key in self._owners or key in self._idle

    def _name(self, key: int | None = None) -> Hashable:
        return key if key is not None and not self._has(key) else ("private", next(self._numbers))

    def _own(self, key: Hashable) -> None:
        self._idle.pop(key, None)
        self._owners[key] = self._owners.get(key, 0) + 1
        while len(self._owners) + len(self._idle) > self.num_blocks:
            self._idle.popitem(last=False)


def block_keys(text: str, block_characters: int) -> tuple[int, ...]:
    """A key for each full block of a prompt, that stands for it and all before it."""
    keys: list[int] = []
    key = 0
    for end in range(block_characters, len(text) + 1, block_characters):
        key = hash((key, text[end - block_characters : end]))
        keys.append(key)
    return tuple(keys)
