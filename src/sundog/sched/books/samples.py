"""The measurements of a host so far, in bounded memory.

Owns samples; the host adds to them and policies read them. Never decides, never forgets but by its bounds.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

SampleKey = TypeVar("SampleKey")


class RecentSamples:
    """The last `max_samples` of one quantity, also in order of size."""

    def __init__(self, max_samples: int) -> None:
        assert max_samples > 0, "room for no sample"
        self._samples: deque[float] = deque()
        self._ordered: list[float] = []
        self._max_samples = max_samples

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def ordered(self) -> Sequence[float]:
        """Smallest first; not to be changed."""
        return self._ordered

    def add(self, sample: float) -> None:
        """Add a sample; the oldest goes where there are `max_samples`."""
        if len(self._samples) == self._max_samples:
            oldest = self._samples.popleft()
            del self._ordered[bisect_right(self._ordered, oldest) - 1]
        self._samples.append(sample)
        insort(self._ordered, sample)


class RecentSamplesByKey(Mapping[SampleKey, RecentSamples]):
    """The RecentSamples of each key, at most `max_keys` of them; the one that was added to longest ago goes."""

    def __init__(self, max_samples: int, max_keys: int) -> None:
        self._max_samples = max_samples
        self._max_keys = max_keys
        self._by_key: OrderedDict[SampleKey, RecentSamples] = OrderedDict()

    def __getitem__(self, key: SampleKey) -> RecentSamples:
        return self._by_key[key]

    def __iter__(self) -> Iterator[SampleKey]:
        return iter(self._by_key)

    def __len__(self) -> int:
        return len(self._by_key)

    def add(self, key: SampleKey, sample: float) -> None:
        """Add a sample to those of `key`."""
        if key not in self._by_key:
            self._by_key[key] = RecentSamples(self._max_samples)
        self._by_key.move_to_end(key)
        self._by_key[key].add(sample)
        if len(self._by_key) > self._max_keys:
            self._by_key.popitem(last=False)
