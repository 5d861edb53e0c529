"""The values that a cell has heard of its owners and keeps in memory, the least recently used thrown away first."""

from __future__ import annotations

from collections import OrderedDict


class KeptValues:
    """Values by key, of `max_bytes` bytes together at most; a larger value is not kept."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._values: OrderedDict[bytes, bytes] = OrderedDict()
        self.num_bytes = 0

    def get(self, key: bytes) -> bytes | None:
        """Return the value, which is the most recently used one now, None where it is not kept."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def keep(self, key: bytes, value: bytes) -> None:
        """Keep the value of a key that has none here, and throw away others until all have room."""
        assert key not in self._values, f"{key!r} has a value"
        self._values[key] = value
        self.num_bytes += len(value)
        while self.num_bytes > self._max_bytes:
            _, dropped = self._values.popitem(last=False)
            self.num_bytes -= len(dropped)
