"""vLLM's queue of free KV blocks in two tiers: what nobody waits for, and what the plan or a program will read again.

Owns which free block is given away next. Never refuses one: a kept block counts as free, and goes when the others are
gone, the worst hold first and in it the end of the prompt first. So no allocation fails because something is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from sundog.vllm_plugin.engine_types import FreeBlocks, KVCacheBlock


@dataclass(slots=True, eq=False)
class Hold:
    """Blocks that `owner` will read again, in the order of the prompt."""

    owner: str
    #: The time at which it ends by itself.
    until_s: float
    last_used_s: float
    prefix_group: str = ""
    steps_to_next_use: float | None = None
    #: It was asked for by name, and is given up after all others.
    is_pin: bool = False
    blocks: list[KVCacheBlock] = field(default_factory=list)


class TwoTierQueue:
    """FreeKVCacheBlockQueue's methods over `first`, the queue that was there, and the kept blocks behind it.

    `rank_of`: of a hold; the smallest is given up first. Asked when something must be given up, once a step.
    """

    def __init__(self, first: FreeBlocks, rank_of: Callable[[Hold], tuple[float, ...]]) -> None:
        self._first = first
        self._rank_of = rank_of
        self._kept: dict[int, KVCacheBlock] = {}
        self._holds: dict[str, Hold] = {}
        self._holders: dict[int, list[Hold]] = {}
        self._worst_last: list[Hold] | None = None
        self.num_given_up = 0

    @property
    def num_free_blocks(self) -> int:
        return self._first.num_free_blocks + len(self._kept)

    @property
    def num_kept_blocks(self) -> int:
        return len(self._kept)

    @property
    def holds(self) -> dict[str, Hold]:
        return self._holds

    def popleft(self) -> KVCacheBlock:
        return self.popleft_n(1)[0]

    def popleft_n(self, n: int) -> list[KVCacheBlock]:
        """Take out `n` blocks: those that nobody keeps first, then kept ones in the order of the policy."""
        assert n <= self.num_free_blocks, f"{n} blocks asked for, {self.num_free_blocks} are free"
        num_first = min(n, self._first.num_free_blocks)
        given: list[KVCacheBlock] = self._first.popleft_n(num_first)
        given += [self._give_up() for _ in range(n - num_first)]
        for block in given:
            self._holders.pop(block.block_id, None)
        return given

    def remove(self, block: KVCacheBlock) -> None:
        if self._kept.pop(block.block_id, None) is None:
            self._first.remove(block)

    def append(self, block: KVCacheBlock) -> None:
        self.append_n([block])

    def append_n(self, blocks: list[KVCacheBlock]) -> None:
        """Add blocks that nobody uses any more; those with a holder are kept."""
        others = []
        for block in blocks:
            if block.block_id in self._holders:
                self._kept[block.block_id] = block
            else:
                others.append(block)
        self._first.append_n(others)

    def prepend_n(self, blocks: list[KVCacheBlock]) -> None:
        """Put blocks first that are without content: nobody can read them again."""
        for block in blocks:
            self._holders.pop(block.block_id, None)
        self._first.prepend_n(blocks)

    def get_all_free_blocks(self) -> list[KVCacheBlock]:
        return [*self._first.get_all_free_blocks(), *self._kept.values()]

    def keep(self, hold: Hold, blocks: Iterable[KVCacheBlock]) -> None:
        """Keep `blocks`, free or in use, in place of what `hold.owner` held before."""
        before = self._holds.get(hold.owner)
        hold.blocks = [block for block in blocks if block.block_hash is not None and not block.is_null]
        for block in hold.blocks:
            self._holders.setdefault(block.block_id, []).append(hold)
            if block.ref_cnt == 0 and block.block_id not in self._kept:
                self._first.remove(block)
                self._kept[block.block_id] = block
        if before is not None:
            self._let_go(before)
        self._holds[hold.owner] = hold
        self._worst_last = None

    def release(self, owner: str) -> bool:
        """End the hold: its free blocks are like any other's, those the prompt's end first. False if there is none."""
        hold = self._holds.pop(owner, None)
        if hold is None:
            return False
        self._let_go(hold)
        self._worst_last = None
        return True

    def release_expired(self, time_s: float) -> list[str]:
        """Let go the holds that have ended, and return their owners."""
        self._worst_last = None
        expired = [hold.owner for hold in self._holds.values() if hold.until_s <= time_s]
        for owner in expired:
            self.release(owner)
        return expired

    def release_all(self) -> None:
        for owner in list(self._holds):
            self.release(owner)

    def _let_go(self, hold: Hold) -> None:
        freed = (self._end_hold(hold, block) for block in reversed(hold.blocks))
        self._first.append_n([block for block in freed if block is not None])

    def _end_hold(self, hold: Hold, block: KVCacheBlock) -> KVCacheBlock | None:
        """Take `hold` off a block; return the block where it was kept for this hold alone."""
        holders = self._holders.get(block.block_id)
        if holders is None or hold not in holders:
            return None
        holders.remove(hold)
        if holders:
            return None
        del self._holders[block.block_id]
        return self._kept.pop(block.block_id, None)

    def _order(self, hold: Hold) -> tuple[bool, tuple[float, ...]]:
        return hold.is_pin, () if hold.is_pin else self._rank_of(hold)

    def _give_up(self) -> KVCacheBlock:
        """Return a kept block of the worst hold that nobody better holds too."""
        if self._worst_last is None:
            self._worst_last = sorted(self._holds.values(), key=self._order, reverse=True)
        while True:
            hold = self._worst_last[-1]
            if not hold.blocks:
                self._worst_last.pop()
                continue
            block = self._end_hold(hold, hold.blocks.pop())
            if block is not None:
                self.num_given_up += 1
                return block
