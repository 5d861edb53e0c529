"""The number of KV tokens that a set of prompts holds, a common prefix counted once.

Owns the count, in blocks of the prefix key. Never knows what a cache does with them.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class _Block:
    num_tokens: int
    owners: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Holding:
    """The tokens that one owner holds."""

    key: tuple[int, ...]
    #: Tokens of the prompt that are in no block which another owner holds too.
    num_own_tokens: int
    num_other_tokens: int


class KVLedger:
    """Owners by name; each holds the blocks of its key, and tokens of its own beyond them.

    `num_tokens`: of all. `num_shared_tokens`: in blocks that have several owners."""

    def __init__(self) -> None:
        self.num_tokens = 0
        self.num_shared_tokens = 0
        self._blocks: dict[int, _Block] = {}
        self._held: dict[str, _Holding] = {}

    def __contains__(self, owner: str) -> bool:
        return owner in self._held

    def num_further_tokens(self, key: tuple[int, ...], num_prompt_tokens: int, num_other_tokens: int) -> int:
        """Return what a prompt with this key, and an answer of `num_other_tokens`, would add."""
        num_held = sum(map(self._blocks.__contains__, key))
        return num_prompt_tokens + num_other_tokens - num_held * block_tokens(key, num_prompt_tokens)

    def num_other_tokens(self, owner: str) -> int:
        """Return what it holds, or will, beyond its prompt."""
        return self._held[owner].num_other_tokens

    def split_beside(self, key: tuple[int, ...]) -> tuple[int, dict[str, int]]:
        """Return how the prompts' tokens are held, were a prompt with this key held too: those in blocks with several
        owners; and of each owner, those that go when it goes. What the prompt itself adds is in neither."""
        num_shared = self.num_shared_tokens
        own = {owner: holding.num_own_tokens for owner, holding in self._held.items()}
        for one in dict.fromkeys(key):
            block = self._blocks.get(one)
            if block is not None and len(block.owners) == 1:
                num_shared += block.num_tokens
                own[next(iter(block.owners))] -= block.num_tokens
        return num_shared, own

    def hold(self, owner: str, key: tuple[int, ...], num_prompt_tokens: int, num_other_tokens: int) -> None:
        """Let `owner`, which holds nothing yet, hold the blocks of `key`, the rest of its prompt, and
        `num_other_tokens`."""
        assert owner not in self._held, f"{owner} holds blocks already"
        num_block_tokens = block_tokens(key, num_prompt_tokens)
        if key:
            key = tuple(dict.fromkeys(key))  # two hashes may collide
        num_last_tokens = num_prompt_tokens - len(key) * num_block_tokens
        self._held[owner] = _Holding(key, num_last_tokens, num_other_tokens)
        self.num_tokens += num_last_tokens + num_other_tokens
        for one in key:
            self._add_owner(one, owner, num_block_tokens)

    def release(self, owner: str) -> None:
        """Let `owner` hold nothing any more."""
        holding = self._held[owner]
        for one in holding.key:
            self._remove_owner(one, owner)
        del self._held[owner]
        self.num_tokens -= holding.num_own_tokens + holding.num_other_tokens

    def _add_owner(self, one: int, owner: str, num_block_tokens: int) -> None:
        block = self._blocks.get(one)
        if block is None:
            block = self._blocks[one] = _Block(num_block_tokens)
            self.num_tokens += num_block_tokens
            self._held[owner].num_own_tokens += num_block_tokens
        elif len(block.owners) == 1:
            self.num_shared_tokens += block.num_tokens
            self._held[next(iter(block.owners))].num_own_tokens -= block.num_tokens
        block.owners.add(owner)

    def _remove_owner(self, one: int, owner: str) -> None:
        """Leaves it to the owner's own tokens where nobody else holds the block."""
        block = self._blocks[one]
        if len(block.owners) == 1:
            del self._blocks[one]
            return
        block.owners.remove(owner)
        if len(block.owners) == 1:
            self.num_shared_tokens -= block.num_tokens
            self._held[next(iter(block.owners))].num_own_tokens += block.num_tokens


def block_tokens(key: tuple[int, ...], num_prompt_tokens: int) -> int:
    """Return the tokens of one block of a key: its blocks are equal parts of the prompt, but for a last part that is
    not full and has no block."""
    return num_prompt_tokens // (len(key) + 1)
