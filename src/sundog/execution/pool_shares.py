"""The limits of a host's pools that others share with it: what it could use of each, uses, and may use from now on.

Owns the counting. Never decides who gets what; the book of shares does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from sundog.execution.pools import RunPools
from sundog.host.driver import Driver


class PoolShares:
    """This class counts the calls of shared pools, and changes their limits, while rows run. A limit is that of each
    replica, which for a tool is the whole pool."""

    def __init__(self, pools: RunPools, driver: Driver) -> None:
        self._pools = pools
        self._driver = driver

    @property
    def names(self) -> Collection[str]:
        """Return the pools whose limits are shared."""
        return self._pools.shares.keys() & self._driver.pools.keys()

    def now_s(self) -> float:
        """Return the time on the clock of the driver."""
        return self._driver.now_s()

    def demands(self) -> dict[str, int]:
        """Return by shared pool how many calls a replica could have under way at once: those that run or wait."""
        counts = Counter(request.pool for request in self._driver.requests.values())
        return {name: -(-counts[name] // max(1, self._num_replicas(name))) for name in self.names}

    def num_running(self, name: str) -> int:
        """Return how many calls the fullest replica of a pool runs."""
        return max((replica.num_running for replica in self._driver.pools[name].replicas), default=0)

    def share(self, name: str, amount: int) -> None:
        """Let each replica of a pool take so many calls at once. What runs beyond that ends by itself."""
        for limited in self._pools.share(self._driver.now_s(), name, amount):
            self._driver.tell(limited)

    def _num_replicas(self, name: str) -> int:
        return sum(not replica.is_down for replica in self._driver.pools[name].replicas)
