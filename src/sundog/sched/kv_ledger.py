"""How many KV tokens a set of prompts holds, a common prefix counted once.

Owns the count, in blocks of the prefix key. Never knows what a cache does with them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class _Block:
    num_owners: int
    num_tokens: int


class KVLedger:
    """Owners by name; each holds the blocks of its key, and tokens of its own beyond them."""

    def __init__(self) -> None:
        self.num_tokens = 0
        self._blocks: dict[int, _Block] = {}
        self._held: dict[str, tuple[tuple[int, ...], int]] = {}

    def __contains__(self, owner: str) -> bool:
        return owner in self._held

    def num_further_tokens(self, key: tuple[int, ...], num_prompt_tokens: int, num_other_tokens: int) -> int:
        """What a prompt with this key, and an answer of `num_other_tokens`, would add."""
        num_held = sum(block in self._blocks for block in key)
        return num_prompt_tokens + num_other_tokens - num_held * _block_tokens(key, num_prompt_tokens)

    def hold(self, owner: str, key: tuple[int, ...], num_prompt_tokens: int, num_other_tokens: int) -> None:
        assert owner not in self._held, f"{owner} holds blocks already"
        block_tokens = _block_tokens(key, num_prompt_tokens)
        num_own = num_prompt_tokens + num_other_tokens - len(key) * block_tokens
        self._held[owner] = key, num_own
        self.num_tokens += num_own
        for block in key:
            known = self._blocks.get(block)
            if known is None:
                self._blocks[block] = _Block(1, block_tokens)
                self.num_tokens += block_tokens
            else:
                known.num_owners += 1

    def release(self, owner: str) -> None:
        key, num_own = self._held.pop(owner)
        self.num_tokens -= num_own
        for one in key:
            block = self._blocks[one]
            block.num_owners -= 1
            if block.num_owners == 0:
                self.num_tokens -= block.num_tokens
                del self._blocks[one]


def _block_tokens(key: tuple[int, ...], num_prompt_tokens: int) -> int:
    """A key's blocks are equal parts of the prompt, but for a last part that is not full and has no block."""
    return num_prompt_tokens // (len(key) + 1)
