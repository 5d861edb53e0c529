"""Room for the KV blocks of running requests, for pipelines that give requests up when blocks run out.

Owns the count of blocks that running requests may come to need. Never decides who is first: who asks gets room or none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Place:
    """The room that one request may need."""

    #: Keys of its prompt's full blocks.
    keys: Sequence[int]
    #: Blocks of its own.
    num_own: int
    #: Keys of the blocks that it has in common with others.
    held: list[int] = field(default_factory=list)


class KVRoom:
    """The room of `num_blocks` blocks. A block in common counts once, but only where one who holds it has computed it:
    until then each request computes its own."""

    def __init__(self, num_blocks: int) -> None:
        self._num_blocks = num_blocks
        self._places: dict[int, _Place] = {}
        self._num_holders: Counter[int] = Counter()
        self._num_own = 0

    def take(self, number: int, keys: Sequence[int], num_blocks: int) -> bool:
        """Return a place for a request that will need at most `num_blocks`, `keys` among them; False where there is
        none now. Who is alone gets one in any case."""
        num_common = next((index for index, key in enumerate(keys) if key not in self._num_holders), len(keys))
        num_own = num_blocks - num_common
        if self._places and len(self._num_holders) + self._num_own + num_own > self._num_blocks:
            return False
        place = self._places[number] = _Place(keys, num_own, list(keys[:num_common]))
        self._num_holders.update(place.held)
        self._num_own += num_own
        return True

    def compute(self, number: int) -> None:
        """The request has computed its prompt: from now on others find its blocks."""
        place = self._places[number]
        fresh = [key for key in place.keys[len(place.held) :] if key not in self._num_holders]
        place.held += fresh
        place.num_own -= len(fresh)
        self._num_own -= len(fresh)
        self._num_holders.update(fresh)

    def leave(self, number: int) -> None:
        """Give back the blocks of the request with this number, but for those that others hold too."""
        place = self._places.pop(number)
        self._num_own -= place.num_own
        for key in place.held:
            self._num_holders[key] -= 1
            if not self._num_holders[key]:
                del self._num_holders[key]
