"""Filling: which replica a waiting request goes to, and whether it may start there now.

Owns the moves of requests between queues, as the policies say. Never starts one: the core does, and keeps the books.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from sundog.sched.books.pool import Entry, Pool
from sundog.sched.policy import Admitted, Deferred, PolicySet
from sundog.sched.views import ReplicaView, RequestView, SchedView

Move = tuple[RequestView, ReplicaView, Admitted | Deferred]
"""A request that has left its queue: it starts on the replica, or is deferred until another one's prefill."""


ADMITTED, NO_ROOM = Admitted(), Deferred()
MAX_RANKED_ALWAYS = 32
MAX_RANKED_HEADS = 8
RANK_AGAIN_S = 0.05
"""A thousand ranks take about a millisecond."""


class Filler:
    """This class finds for the core which waiting request starts where. `sched` is the core's; what concerns the pool
    at hand is written here."""

    def __init__(self, policies: PolicySet, sched: SchedView) -> None:
        self._policies = policies
        self._sched = sched

    def look_at(self, pool: Pool) -> None:
        """Set what ranks are told of the pool."""
        self._sched.num_queued = len(pool.waiting)
        self._sched.num_seen_blocks = pool.prefixes.num_blocks
        self._sched.num_cache_blocks = pool.num_cache_blocks
        self._sched.num_starts_above = pool.num_starts_above

    def rank_all(self, pool: Pool) -> None:
        """Rank all that wait, here and at replicas, as ranks have changed."""
        self.look_at(pool)
        for queue in (pool.waiting, pool.aside, *pool.at_replica.values()):
            self._rank_queue(queue)

    def moves(self, pool: Pool) -> Iterator[Move]:
        """Carry each out before the next is asked for.

        Strictly by rank on each replica: the first request without room there holds back those behind it, so nobody
        starves. Requests find their replica while any has a free slot, and wait for it if that one is full. Those that
        wait aside hold back each other alone, and come back, in their rank, when a free replica would admit them.
        """
        if self._policies.dispatches_at_once:
            self._dispatch(pool)
        if not pool.num_free or not pool.has_waiting:
            return
        self.look_at(pool)
        if self._policies.needs_workflows:
            self._rank_again(pool)
        free = [one for one in pool.replicas if one.num_running < one.max_concurrency and one.is_serving]
        num_returning = len(pool.aside)
        while free:
            num_returning = num_returning - 1 if num_returning and self._returns(pool, free) else 0
            replica = _first_in_rank(pool, free)
            if replica is None:
                if not (self._route(pool) if pool.waiting else self._take_over(pool, free)):
                    return
                continue
            request = pool.at_replica[replica.replica_id][0][2]
            verdict = self._admit(pool, request, replica)
            if verdict == NO_ROOM:
                free.remove(replica)
                continue
            entry = pool.pop(replica)
            if isinstance(verdict, Deferred) and verdict.until_s is not None:
                heapq.heappush(pool.aside, entry)
            yield request, replica, verdict
            if replica.num_running == replica.max_concurrency:
                free.remove(replica)

    def _rank_again(self, pool: Pool) -> None:
        """Ranks by workflows change while requests wait. A long queue is looked through again after RANK_AGAIN_S;
        meanwhile its best ones are, until one has not changed."""
        queues = [pool.waiting, pool.aside]
        if self._policies.ranks_with_time:
            queues += pool.at_replica.values()
            if sum(map(len, queues)) == 1:
                # One alone comes before nobody, and is ranked again once another one waits.
                return
        is_due = self._sched.time_s >= pool.ranked_s + RANK_AGAIN_S
        short = [queue for queue in queues if is_due or len(queue) <= MAX_RANKED_ALWAYS]
        for queue in short:
            self._rank_queue(queue)
        if len(short) == len(queues):
            pool.ranked_s = self._sched.time_s
            return
        for queue in queues:
            if len(queue) > MAX_RANKED_ALWAYS:
                self._rank_heads(queue)

    def _rank_heads(self, queue: list[Entry]) -> None:
        for _ in range(MAX_RANKED_HEADS):
            rank, sequence, request = queue[0]
            now = self._policies.rank(request, self._sched)
            if now == rank:
                return
            heapq.heapreplace(queue, (now, sequence, request))

    def _rank_queue(self, queue: list[Entry]) -> None:
        queue[:] = [(self._policies.rank(request, self._sched), sequence, request) for _, sequence, request in queue]
        heapq.heapify(queue)

    def _dispatch(self, pool: Pool) -> None:
        """Send all that have no replica to one, room or not, while any serves."""
        while pool.waiting and any(replica.is_serving for replica in pool.replicas):
            if not self._route(pool):
                return

    def _route(self, pool: Pool) -> bool:
        """Send the pool's next request to a replica. Where none is fit, it holds back those behind it."""
        request = pool.waiting[0][2]
        serving = [replica for replica in pool.replicas if replica.is_serving]
        self._sched.least_load = min(replica.load for replica in serving)
        fit = [replica for replica in serving if self._is_fit(request, replica)]
        if fit:
            self._send(pool, heapq.heappop(pool.waiting), fit)
        return bool(fit)

    def _returns(self, pool: Pool, free: Sequence[ReplicaView]) -> bool:
        """Return whether the first of those that wait aside could go to a free replica, as one would admit it."""
        request = pool.aside[0][2]
        self._sched.least_load = min(replica.load for replica in pool.replicas if replica.is_serving)
        fit = [one for one in free if self._is_fit(request, one) and self._admit(pool, request, one) == ADMITTED]
        if fit:
            self._send(pool, heapq.heappop(pool.aside), fit)
        return bool(fit)

    def _send(self, pool: Pool, entry: Entry, fit: Sequence[ReplicaView]) -> None:
        """Let the request wait at the one that it prefers."""
        replica = fit[0] if len(fit) == 1 else max(fit, key=lambda one: self._preference(entry[2], one))
        replica.num_routed += 1
        pool.push(replica, entry)

    def _take_over(self, pool: Pool, free: Sequence[ReplicaView]) -> bool:
        """Return whether one of the free replicas, for which nothing waits, has got what had come to wait too long
        elsewhere."""
        if len(free) == len(pool.replicas):
            # None has what another one could take over.
            return False
        taker = min(free, key=lambda one: one.load)
        self._sched.least_load = taker.load
        fullest = max(pool.replicas, key=lambda one: (one.num_waiting > 0, one.load))
        if not fullest.num_waiting or fullest in free:
            return False
        # Judged as when it was sent there: without itself.
        last = pool.pop_last(fullest)
        is_taken = self._moves(last[2], fullest, taker)
        pool.push(taker if is_taken else fullest, last)
        return is_taken

    def _moves(self, request: RequestView, source: ReplicaView, target: ReplicaView) -> bool:
        if self._policies.reschedule is not None:
            return self._policies.reschedule(request, source, target, self._sched)
        return self._is_fit(request, target) and not self._is_fit(request, source)

    def _is_fit(self, request: RequestView, replica: ReplicaView) -> bool:
        for keep in self._policies.filters:  # noqa: SIM110 - a generator for each request costs more than the check
            if not keep(request, replica, self._sched):
                return False
        return True

    def _preference(self, request: RequestView, replica: ReplicaView) -> tuple[float, int]:
        total = sum(weight * score(request, replica, self._sched) for score, weight in self._policies.scores)
        return total, -replica.num_routed

    def _admit(self, pool: Pool, request: RequestView, replica: ReplicaView) -> Admitted | Deferred:
        if request.facts.tier == "batch":
            first = pool.first_waiting()
            self._sched.first_waiting = None if first is None else first[2]
        for admit in self._policies.admit:
            verdict = admit(request, replica, self._sched)
            if isinstance(verdict, Deferred):
                return verdict
        return ADMITTED


def _first_in_rank(pool: Pool, free: Sequence[ReplicaView]) -> ReplicaView | None:
    """Return the replica whose first request comes before those of the others; None where the pool's own does, or none
    is."""
    first = pool.waiting[0] if pool.waiting else None
    found = None
    for replica in free:
        queue = pool.at_replica[replica.replica_id]
        if queue and (first is None or queue[0] < first):
            first, found = queue[0], replica
    return found
