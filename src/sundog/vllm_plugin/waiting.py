"""The waiting queue inside vLLM: ranked requests in a heap, all others in the queue that vLLM itself would use.

Owns the order of waiting requests. Never decides a rank. A request without an envelope goes before every ranked
one that came after it, and behaves among its own kind as in stock vLLM.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count

from sundog.vllm_plugin.engine_types import EngineQueue, EngineRequest

WaitingRank = tuple[float, ...]
MAX_REFRESHED_PER_STEP = 32
"""Ranks computed anew at each step where ranks change with time; a thousand waiting requests take 32 steps."""
MAX_REFRESHED_HEADS = 8


class WaitingQueue:
    """vLLM's RequestQueue over two queues.

    `rank_of`: the rank of a request, None for one without an envelope; the answer None never changes for a request.
    """

    def __init__(self, stock: EngineQueue, rank_of: Callable[[EngineRequest], WaitingRank | None]) -> None:
        self._stock = stock
        self._rank_of = rank_of
        self._heap: list[tuple[WaitingRank, int, str]] = []
        self._ranked: dict[str, tuple[int, EngineRequest]] = {}
        self._turns: deque[str] = deque()
        self._serial = count()
        self._peeked: EngineRequest | None = None
        self._is_held = False

    def add_request(self, request: EngineRequest) -> None:
        if not self._add_ranked(request):
            self._stock.add_request(request)

    def prepend_request(self, request: EngineRequest) -> None:
        if not self._add_ranked(request):
            self._stock.prepend_request(request)

    def prepend_requests(self, requests: Iterable[EngineRequest]) -> None:
        others = [request for request in requests if not self._add_ranked(request)]
        if others:
            self._stock.prepend_requests(others)

    def peek_request(self) -> EngineRequest:
        self._peeked = self._head()
        return self._peeked

    def pop_request(self) -> EngineRequest:
        """Take out the first request; the one that was looked at last, if any was."""
        # vLLM pops what it has just looked at; holding back in between must not change which one that is.
        request = self._peeked or self._head()
        self._peeked = None
        if request.request_id in self._ranked:
            del self._ranked[request.request_id]
            return request
        return self._stock.pop_request()

    def remove_request(self, request: EngineRequest) -> None:
        if self._ranked.pop(request.request_id, None) is None:
            self._stock.remove_request(request)

    def remove_requests(self, requests: Iterable[EngineRequest]) -> None:
        """Requests that are not here are passed over, as in vLLM."""
        others = [request for request in requests if self._ranked.pop(request.request_id, None) is None]
        if others and self._stock:
            self._stock.remove_requests(others)

    def __bool__(self) -> bool:
        return bool(self._stock) or (not self._is_held and bool(self._ranked))

    def __len__(self) -> int:
        return len(self._stock) + len(self._ranked)

    def __iter__(self) -> Iterator[EngineRequest]:
        yield from self._stock
        for _, _, request_id in sorted(entry for entry in self._heap if self._is_live(entry)):
            yield self._ranked[request_id][1]

    def hold_ranked(self) -> None:
        """Show only requests without an envelope for the rest of this step."""
        self._is_held = True

    def end_step(self) -> None:
        self._is_held = False

    def rank_again(self, request_ids: Iterable[str]) -> None:
        """These have changed. Unknown ids are passed over."""
        for request_id in request_ids:
            if request_id in self._ranked:
                self._add_ranked(self._ranked[request_id][1])

    def refresh(self) -> None:
        """Compute some ranks anew: the best ones, until one has not changed, and the next few in turn."""
        for _ in range(min(MAX_REFRESHED_HEADS, len(self._ranked))):
            self._drop_dead()
            key, _, request_id = self._heap[0]
            request = self._ranked[request_id][1]
            if self._rank_of(request) == key:
                break
            self._add_ranked(request)
        for _ in range(min(MAX_REFRESHED_PER_STEP, len(self._turns))):
            request_id = self._turns.popleft()
            if request_id in self._ranked:
                self._turns.append(request_id)
                self._add_ranked(self._ranked[request_id][1])

    def _add_ranked(self, request: EngineRequest) -> bool:
        key = self._rank_of(request)
        if key is None:
            return False
        serial = next(self._serial)
        if request.request_id not in self._ranked:
            self._turns.append(request.request_id)
        self._ranked[request.request_id] = serial, request
        heapq.heappush(self._heap, (key, serial, request.request_id))
        if len(self._heap) > 64 + 4 * len(self._ranked):
            self._heap = [entry for entry in self._heap if self._is_live(entry)]
            heapq.heapify(self._heap)
        return True

    def _is_live(self, entry: tuple[WaitingRank, int, str]) -> bool:
        _, serial, request_id = entry
        return request_id in self._ranked and self._ranked[request_id][0] == serial

    def _drop_dead(self) -> None:
        while self._heap and not self._is_live(self._heap[0]):
            heapq.heappop(self._heap)

    def _head(self) -> EngineRequest:
        self._drop_dead()
        ranked = None if self._is_held or not self._heap else self._ranked[self._heap[0][2]][1]
        if ranked is None:
            return self._stock.peek_request()
        if not self._stock:
            return ranked
        other = self._stock.peek_request()
        is_first = other.num_preemptions > 0 or other.arrival_time <= ranked.arrival_time
        return other if is_first else ranked
