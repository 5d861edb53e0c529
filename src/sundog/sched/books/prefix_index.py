"""The prompt prefixes that a replica holds or is computing, as far as the scheduler knows.

Owns the block table of one replica. Never talks to the engine: what the engine evicts it learns by its own bound.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import count


class PrefixIndex:
    """Blocks by cumulative hash: warm, or being computed by a request. At most `max_blocks`, oldest out first."""

    def __init__(self, max_blocks: int) -> None:
        self._max_blocks = max_blocks
        self._computing_by: OrderedDict[int, str | None] = OrderedDict()

    @property
    def max_blocks(self) -> int:
        return self._max_blocks

    def num_known_blocks(self, key: tuple[int, ...]) -> int:
        """Return how many leading blocks of `key` are warm or being computed."""
        return next((number for number, block in enumerate(key) if block not in self._computing_by), len(key))

    def computing(self, key: tuple[int, ...]) -> str | None:
        """Return the request that is computing the deepest known block of `key`; None when that block is warm or
        unknown."""
        for block in reversed(key):
            if block in self._computing_by:
                return self._computing_by[block]
        return None

    def begin(self, key: tuple[int, ...], request_id: str) -> int:
        """Let `request_id` compute every block of `key` that nobody has: all from the number that is returned."""
        if not key:
            return 0
        num_known = self.num_known_blocks(key)
        for block in key:
            if block in self._computing_by:
                self._computing_by.move_to_end(block)
            else:
                self._computing_by[block] = request_id
        while len(self._computing_by) > self._max_blocks:
            self._computing_by.popitem(last=False)
        return num_known

    def end(self, key: tuple[int, ...], request_id: str, *, is_warm: bool) -> None:
        """`request_id` has computed its blocks (`is_warm`) or will not."""
        for block in key:
            if self._computing_by.get(block) == request_id:
                if is_warm:
                    self._computing_by[block] = None
                else:
                    del self._computing_by[block]


class PrefixOrder:
    """Numbers blocks as they are first seen, so that keys compare as their prefixes came. Forgets the first seen beyond
    `max_blocks`; a block that comes again then counts as new."""

    def __init__(self, max_blocks: int) -> None:
        self._max_blocks = max_blocks
        self._numbers: OrderedDict[int, int] = OrderedDict()
        self._repeated: set[int] = set()
        self._count = count()

    @property
    def num_blocks(self) -> int:
        """Different ones seen, as far as they are remembered."""
        return len(self._numbers)

    def numbers(self, key: tuple[int, ...]) -> tuple[int, ...]:
        """Return the numbers of the key's blocks; a block that is not known gets the next one."""
        if not key:
            return ()
        num_known = next((number for number, block in enumerate(key) if block not in self._numbers), len(key))
        if num_known:
            self._repeated.add(key[num_known - 1])
        found = tuple([self._numbers[block] if block in self._numbers else self._add(block) for block in key])
        while len(self._numbers) > self._max_blocks:
            self._repeated.discard(self._numbers.popitem(last=False)[0])
        return found

    def is_shared(self, blocks: tuple[int, ...]) -> bool:
        """Return whether another key had a prefix that ends in one of `blocks`, as far as is remembered."""
        return not self._repeated.isdisjoint(blocks)

    def _add(self, block: int) -> int:
        number = self._numbers[block] = next(self._count)
        return number


def num_common_blocks(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Return how many leading blocks two keys share."""
    if not one or not other:
        return 0
    return next(
        (number for number, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
        min(len(one), len(other)),
    )
