"""The core's record of a pool: its replicas, and who waits where.

Owns the record; the core and its worker book write it. Never decides.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from sundog.sched.books.prefix_index import PrefixOrder
from sundog.sched.views import DeviceView, ReplicaView, RequestView

# The prefixes of all rows in flight have fewer; each takes 100 bytes.
MAX_ORDERED_BLOCKS = 250_000

Entry = tuple[tuple[float, ...], int, RequestView]
"""(rank, sequence, request), so that queues are heaps and compare with each other. No two sequences are equal."""


@dataclass(slots=True)
class Pool:
    """One pool and its queues."""

    replicas: list[ReplicaView] = field(default_factory=list)
    #: A heap of the requests without a replica.
    waiting: list[Entry] = field(default_factory=list)
    #: A heap of the requests that wait aside, until a replica admits them or their time has come.
    aside: list[Entry] = field(default_factory=list)
    #: By replica, the requests that wait for a slot there.
    at_replica: dict[str, list[Entry]] = field(default_factory=dict)
    #: Slots that are free at the replicas that serve.
    num_free: int = 0
    #: Requests that wait for another one's prefill.
    num_parked: int = 0
    #: Starts since the last one of the tiers `flex` and `batch`.
    num_starts_above: int = 0
    #: Requests that have finished so far.
    num_finished: int = 0
    #: Blocks of the smallest of its replicas' caches.
    num_cache_blocks: int = 0
    #: The time at which all that wait were ranked last.
    ranked_s: float = 0.0
    #: The device that it shares, None for none.
    device: DeviceView | None = None
    prefixes: PrefixOrder = field(default_factory=lambda: PrefixOrder(MAX_ORDERED_BLOCKS))

    @property
    def has_waiting(self) -> bool:
        return bool(self.waiting or self.aside) or any(self.at_replica.values())

    @property
    def num_waiting(self) -> int:
        return sum(len(queue) for queue in self._queues())

    def first_waiting(self) -> Entry | None:
        """Return the one with the smallest rank."""
        return min((queue[0] for queue in self._queues() if queue), default=None)

    def all_waiting(self) -> Iterator[Entry]:
        for queue in self._queues():
            yield from queue

    def add(self, replica: ReplicaView) -> None:
        self.replicas.append(replica)
        self.at_replica[replica.replica_id] = []
        self.num_free += replica.num_free
        self._measure_caches()

    def remove(self, replica: ReplicaView) -> None:
        self.replicas.remove(replica)
        assert not self.at_replica.pop(replica.replica_id), f"{replica.replica_id} still has requests"
        self._measure_caches()

    def push(self, replica: ReplicaView, entry: Entry) -> None:
        replica.queue(entry[2])
        replica.num_waiting += 1
        heapq.heappush(self.at_replica[replica.replica_id], entry)

    def pop(self, replica: ReplicaView) -> Entry:
        entry = heapq.heappop(self.at_replica[replica.replica_id])
        self._has_left(replica, entry)
        return entry

    def pop_last(self, replica: ReplicaView) -> Entry:
        """Return the one that would have waited longest."""
        last = max(self.at_replica[replica.replica_id])
        self._withdraw(replica, last)
        return last

    def call_back(self, time_s: float) -> bool:
        """Let those that have waited aside for as long as they may wait with all others; return whether there were
        any."""
        due = [entry for entry in self.aside if entry[2].aside_until_s <= time_s]
        if due:
            self.aside = [entry for entry in self.aside if entry[2].aside_until_s > time_s]
            heapq.heapify(self.aside)
            for entry in due:
                heapq.heappush(self.waiting, entry)
        return bool(due)

    def stop_serving(self, replica: ReplicaView) -> None:
        """Send what waits at a replica elsewhere; to be called before the replica is marked."""
        if replica.is_serving:
            self.num_free -= replica.num_free
        for entry in list(self.at_replica[replica.replica_id]):
            self._withdraw(replica, entry)
            heapq.heappush(self.waiting, entry)

    def start_serving(self, replica: ReplicaView) -> None:
        """It answers again, if it did not."""
        was_serving, replica.is_down = replica.is_serving, False
        if replica.is_serving and not was_serving:
            self.num_free += replica.num_free

    def limit(self, replica: ReplicaView, max_concurrency: int) -> None:
        """It takes so many at once; what waits at one that takes none goes elsewhere."""
        if max_concurrency == 0:
            self.stop_serving(replica)
        elif replica.is_serving:
            self.num_free -= replica.num_free
        replica.max_concurrency = max_concurrency
        if replica.is_serving:
            self.num_free += replica.num_free

    def forget(self, request: RequestView) -> None:
        """Take a request out of whichever queue holds it. Rare, so linear."""
        self.waiting = [entry for entry in self.waiting if entry[2] is not request]
        heapq.heapify(self.waiting)
        self.aside = [entry for entry in self.aside if entry[2] is not request]
        heapq.heapify(self.aside)
        for replica in self.replicas:
            for entry in self.at_replica[replica.replica_id]:
                if entry[2] is request:
                    self._withdraw(replica, entry)
                    return

    def clear(self) -> list[RequestView]:
        """Return all that waited."""
        found = [entry[2] for entry in self.all_waiting()]
        self.waiting.clear()
        self.aside.clear()
        for replica in self.replicas:
            for entry in list(self.at_replica[replica.replica_id]):
                self._withdraw(replica, entry)
        return found

    def _measure_caches(self) -> None:
        self.num_cache_blocks = min((replica.prefixes.max_blocks for replica in self.replicas), default=0)

    def _queues(self) -> Iterator[list[Entry]]:
        yield self.waiting
        yield self.aside
        yield from self.at_replica.values()

    def _withdraw(self, replica: ReplicaView, entry: Entry) -> None:
        queue = self.at_replica[replica.replica_id]
        queue.remove(entry)
        heapq.heapify(queue)
        self._has_left(replica, entry)

    def _has_left(self, replica: ReplicaView, entry: Entry) -> None:
        replica.num_waiting -= 1
        replica.unqueue(entry[2])
