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
    """The blocks of one request, in order."""

    keys: list[Hashable]
    #: Prompt tokens that were there before.
    num_cached_tokens: int
    num_tokens: int


@dataclass(slots=True)
class BlockTable:
    """The KV blocks of a modelled engine. A block is known by all text up to its end, or by nobody."""

    num_blocks: int
    #: Tokens of a block.
    block_tokens: int
    #: Tokens in blocks that several requests hold, counted for each of them but one: that one reads them first.
    num_shared_tokens: int = 0
    _owners: dict[Hashable, int] = field(default_factory=dict)
    _idle: OrderedDict[Hashable, None] = field(default_factory=OrderedDict)
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def num_available(self) -> int:
        """Blocks that nobody uses, whether they hold a prefix or not."""
        return self.num_blocks - len(self._owners)

    def take(self, prompt_keys: Sequence[int], num_tokens: int, num_reserved: int = 0) -> Held | None:
        """Take room for a prompt; None when there is not enough. `prompt_keys`: of its full blocks; `num_reserved`:
        blocks that must stay available beside it."""
        num_hit = self.num_known(prompt_keys)
        hit = prompt_keys[:num_hit]
        num_new = -(-num_tokens // self.block_tokens) - num_hit
        if num_new > self.num_available - num_reserved - sum(key in self._idle for key in hit):
            return None
        # Two requests may compute the same text at the same time; then one of them has it to itself.
        fresh: list[Hashable] = [self._name(key) for key in prompt_keys[num_hit:]]
        fresh += [self._name() for _ in range(num_new - len(fresh))]
        keys: list[Hashable] = [*hit, *fresh]
        for key in keys:
            self._own(key)
        return Held(keys, min(num_hit * self.block_tokens, num_tokens - 1), num_tokens)

    def num_known(self, prompt_keys: Sequence[int]) -> int:
        """Return how many blocks of a prompt are there, from its first one on."""
        num_hit = 0
        while num_hit < len(prompt_keys) and self._has(prompt_keys[num_hit]):
            num_hit += 1
        return num_hit

    def num_needed(self, held: Sequence[Held], num_tokens: int) -> int:
        """Return how many blocks more `num_tokens` more of each take."""
        size = self.block_tokens
        return sum(-(-(one.num_tokens + num_tokens) // size) - len(one.keys) for one in held)

    def extend(self, held: Held, num_tokens: int = 1) -> bool:
        """Take room for `num_tokens` more; False, and nothing taken, when there is none."""
        num_new = self.num_needed((held,), num_tokens)
        if num_new > self.num_available:
            return False
        for _ in range(num_new):
            key = self._name()
            self._own(key)
            held.keys.append(key)
        held.num_tokens += num_tokens
        return True

    def free(self, held: Held) -> None:
        """Free the blocks of a request; they stay as prefixes while there is room."""
        for key in reversed(held.keys):
            self._owners[key] -= 1
            self._count_shared(self._owners[key], -1)
            if self._owners[key] == 0:
                del self._owners[key]
                self._idle[key] = None

    def _has(self, key: Hashable) -> bool:
        return key in self._owners or key in self._idle

    def _name(self, key: int | None = None) -> Hashable:
        return key if key is not None and not self._has(key) else ("private", next(self._numbers))

    def _own(self, key: Hashable) -> None:
        self._idle.pop(key, None)
        num_owners = self._owners.get(key, 0)
        self._owners[key] = num_owners + 1
        self._count_shared(num_owners, 1)
        while len(self._owners) + len(self._idle) > self.num_blocks:
            self._idle.popitem(last=False)

    def _count_shared(self, num_others: int, change: int) -> None:
        """Count an owner that came to a block, or left it, beside `num_others`."""
        if num_others:
            self.num_shared_tokens += change * self.block_tokens


def block_keys(text: str, block_characters: int) -> tuple[int, ...]:
    """Return a key for each full block of a prompt, that stands for it and all before it."""
    keys: list[int] = []
    key = 0
    for end in range(block_characters, len(text) + 1, block_characters):
        key = hash((key, text[end - block_characters : end]))
        keys.append(key)
    return tuple(keys)
