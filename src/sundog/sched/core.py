"""The scheduler core: keeps the books and turns each event into actions.

Owns requests, replicas and queues, changed only through `handle`; the books on workers, whose replicas come and go, are
in `workers`. Never does I/O, never reads a clock: hosts perform the actions and report what happened.

A request is waiting (in its pool's queue, a replica's, or aside), parked (until another request's prefill), delayed
(until a time, before a retry; in `delays`), or running (on a replica). It leaves the books when it finished, was given
up or was cancelled.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from sundog.sched.books.between_calls import BetweenCalls
from sundog.sched.books.delays import DelayBook, is_too_long
from sundog.sched.books.devices import DeviceBook
from sundog.sched.books.kv_ledger import block_tokens
from sundog.sched.books.parking import ParkingBook
from sundog.sched.books.pool import Pool
from sundog.sched.books.pool_book import PoolBook
from sundog.sched.books.prefix_index import num_common_blocks
from sundog.sched.books.step_order import StepOrderBook
from sundog.sched.books.turn_book import TurnBook
from sundog.sched.books.workers import WorkerBook
from sundog.sched.events import (
    Abort,
    Action,
    Draining,
    Event,
    GiveUp,
    LoadFailed,
    PoolClosed,
    PoolOpened,
    PrefillEnded,
    ReplicaAdded,
    ReplicaDown,
    ReplicaDraining,
    ReplicaLimited,
    ReplicaLost,
    ReplicaRemoved,
    ReplicaReported,
    ReplicaUp,
    RequestArrived,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    StepDrained,
    StepsOrdered,
    Submit,
    TimerFired,
    Unload,
    WakeAt,
    Why,
    WorkerAdded,
    WorkerPlanned,
    WorkflowEnded,
    WorkflowLeft,
)
from sundog.sched.facts import LOW_TIERS
from sundog.sched.filling import Filler
from sundog.sched.policy import Deferred, PolicySet
from sundog.sched.views import ReplicaView, RequestView, SchedView


class SchedulerCore:
    """One instance schedules all pools of one host."""

    def __init__(self, policies: PolicySet) -> None:
        self._policies = policies
        self._book = PoolBook()
        #: By name; whoever watches reads these and the requests that are open, and changes nothing.
        self.pools = self._book.pools
        self._replicas = self._book.replicas
        self.requests: dict[str, RequestView] = {}
        self._parked = ParkingBook(self.pools, self._replicas)
        self._delayed = DelayBook()
        self._is_draining = False
        self._arrived: list[RequestView] = []
        self._between_calls = BetweenCalls()
        self._sequence = count()
        self._num_running = 0
        self._view = SchedView()
        self._turns = TurnBook(policies, self._view)
        self._filler = Filler(policies, self._view)
        self._devices = DeviceBook(policies.time_slice, self._view, self.pools)
        self._step_order = StepOrderBook(self._view)
        self._workers = WorkerBook(policies.residency, self._view, self.pools)
        self._handlers: dict[type, Callable[[Any, list[Action]], None]] = {
            PoolOpened: self._pool_opened,
            PoolClosed: self._pool_closed,
            ReplicaAdded: self._replica_added,
            ReplicaLimited: lambda event, actions: self._refill(self._book.limit(event), actions),
            ReplicaDraining: self._replica_draining,
            RequestArrived: self._request_arrived,
            PrefillEnded: self._prefill_ended,
            RequestFinished: self._request_finished,
            RequestFailed: self._request_failed,
            RequestCancelled: self._request_cancelled,
            WorkflowLeft: self._workflow_left,
            WorkflowEnded: self._workflow_ended,
            TimerFired: self._timer_fired,
            Draining: self._drain,
            ReplicaRemoved: self._replica_removed,
            ReplicaDown: lambda event, actions: self._refill(self._book.take_down(event.replica_id), actions),
            ReplicaUp: lambda event, actions: self._refill(self._book.bring_up(event.replica_id), actions),
            ReplicaLost: lambda event, actions: self._refill(self._book.lose(event.replica_id), actions),
            ReplicaReported: lambda event, actions: self._book.report(event),
            LoadFailed: lambda event, actions: self._workers.fail_load(event, actions),
            WorkerAdded: lambda event, actions: self._workers.add(event),
            WorkerPlanned: lambda event, actions: self._workers.plan(event),
            StepsOrdered: self._steps_ordered,
            StepDrained: lambda event, actions: self._workers.drain_step(event),
        }

    def handle(self, event: Event) -> list[Action]:
        """Return what is to be done now that `event` happened. Events come in order of time."""
        self._view.time_s = event.time_s
        actions: list[Action] = []
        if self._workers:
            self._workers.pass_time(event.time_s)
        self._turns.pass_time(event.time_s)
        self._handlers[type(event)](event, actions)
        if self._workers or self._book.gone:
            self._give_up_gone(actions)
            self._workers.settle(self._num_running + len(self._delayed), actions)
        return actions

    @property
    def num_unfinished(self) -> int:
        return len(self.requests)

    def check(self) -> None:
        """Assert that the books agree with each other; for tests and idle moments."""
        running = [request for request in self.requests.values() if request.replica_id is not None]
        assert self._num_running == len(running)
        for replica in self._replicas.values():
            assert replica.num_open_workflows == self._between_calls.num_at(replica), replica
        arrived = [request.request_id for request in self._arrived]
        waiting = [entry[2].request_id for pool in self.pools.values() for entry in pool.all_waiting()]
        parked = self._parked.request_ids()
        assert len(parked) == sum(pool.num_parked for pool in self.pools.values())
        placed = sorted(
            [*arrived, *waiting, *parked, *self._delayed.request_ids(), *(request.request_id for request in running)]
        )
        assert placed == sorted(self.requests), "every request is in exactly one place"
        assert all(holder in self.requests for holder in self._parked.holders()), "parked behind a request that is gone"
        self._book.check(self.requests.values())
        self._devices.check()
        self._workers.check()

    def _pool_opened(self, event: PoolOpened, actions: list[Action]) -> None:
        self._book.open(event.pool)

    def _pool_closed(self, event: PoolClosed, actions: list[Action]) -> None:
        pool = self._book.close(event.pool, event.why)
        for request in pool.clear():
            self._give_up(request, actions, event.why)
        # Others wait for a time, for another one's prefill, or for the last of their moment.
        for request in [one for one in self.requests.values() if one.pool == event.pool and one.replica_id is None]:
            self._forget_place(pool, request)
            self._give_up(request, actions, event.why)
        self._book.forget_if_closed(event.pool)

    def _replica_added(self, event: ReplicaAdded, actions: list[Action]) -> None:
        replica = self._book.add_replica(event)
        if event.worker_id is not None:
            self._workers.add_replica(replica)
        self._devices.add(event.shared_device, event.pool)
        self._refill(replica, actions)

    def _replica_removed(self, event: ReplicaRemoved, actions: list[Action]) -> None:
        replica = self._book.remove_replica(event.replica_id)
        self._devices.count_devices()
        self._between_calls.forget_replica(replica)
        self._turns.forget_replica(replica)
        if replica.worker_id is not None:
            self._workers.remove_replica(replica, actions)
        self._refill(replica, actions)
        self._book.forget_if_closed(replica.pool)

    def _replica_draining(self, event: ReplicaDraining, actions: list[Action]) -> None:
        replica = self._book.drain(event.replica_id)
        self._refill(replica, actions)
        self._unload_if_drained(replica, actions)

    def _unload_if_drained(self, replica: ReplicaView, actions: list[Action]) -> None:
        """Replicas of workers are unloaded by their book, which may have something to load then."""
        if replica.is_draining and replica.num_running == 0 and replica.worker_id is None:
            actions.append(Unload(replica.replica_id))

    def _refill(self, replica: ReplicaView, actions: list[Action]) -> None:
        self._fill(self.pools[replica.pool], actions)

    def _request_arrived(self, event: RequestArrived, actions: list[Action]) -> None:
        assert event.request_id not in self.requests, f"request {event.request_id} is there already"
        refusal = self._book.refusal(event.pool)
        if refusal is None:
            self._record_arrival(event, self.pools[event.pool])
        else:
            actions.append(GiveUp(event.request_id, 0, refusal))
        if not event.more_follow:
            self._take_arrived(actions)

    def _record_arrival(self, event: RequestArrived, pool: Pool) -> None:
        last_key = self._between_calls.close(event.pool, event.workflow_id)
        request = RequestView(
            event.request_id,
            event.pool,
            event.time_s,
            event.workflow_order,
            event.depth,
            event.num_prompt_tokens,
            event.num_expected_output_tokens,
            event.prefix_key,
            event.max_attempts,
            max_retry_wait_s=event.max_retry_wait_s,
            workflow_id=event.workflow_id,
            node=event.facts.step_id,
            model=event.pool,
            need_s=event.need_s,
            prefix_order=pool.prefixes.numbers(event.prefix_key),
            has_successor=event.has_successor,
            is_successor=last_key is not None,
            num_inherited_blocks=num_common_blocks(last_key or (), event.prefix_key),
            facts=event.facts,
        )
        if event.facts.deadline_s is not None:
            request.deadline_s = event.time_s + event.facts.deadline_s
        self._turns.arrive(request)
        self.requests[event.request_id] = request
        self._workers.begin_step(event.pool, request.node)
        self._arrived.append(request)

    def _take_arrived(self, actions: list[Action]) -> None:
        """All are known before the first is ranked."""
        arrived, self._arrived = self._arrived, []
        for request in arrived:
            self._enqueue(self.pools[request.pool], request)
        for name in dict.fromkeys(request.pool for request in arrived):
            self._fill(self.pools[name], actions)

    def _prefill_ended(self, event: PrefillEnded, actions: list[Action]) -> None:
        request = self.requests[event.request_id]
        assert request.replica_id is not None, f"{event.request_id} is not running"
        replica = self._replicas[request.replica_id]
        replica.prefixes.end(request.prefix_key, request.request_id, is_warm=True)
        self._unpark(request.request_id)
        self._fill(self.pools[request.pool], actions)

    def _request_finished(self, event: RequestFinished, actions: list[Action]) -> None:
        request = self.requests.pop(event.request_id)
        replica = self._leave_replica(request, actions, is_warm=True)
        self._turns.finish(request, replica, event)
        if request.has_successor:
            self._between_calls.open(request, replica)
        self.pools[request.pool].num_finished += 1
        self._unpark(request.request_id)
        self._fill(self.pools[request.pool], actions)

    def _request_failed(self, event: RequestFailed, actions: list[Action]) -> None:
        request = self.requests[event.request_id]
        replica = self._leave_replica(request, actions, is_warm=False)
        request.failed_replicas = (*request.failed_replicas, replica.replica_id)
        self._unpark(request.request_id)
        why = self._why_not_again(request, event)
        if why is not None:
            self._give_up(request, actions, why)
        else:
            at_s = event.time_s + self._policies.retry(request, event.retry_after_s, self._view)
            self._delayed.add(request.request_id, at_s)
            actions.append(WakeAt(at_s, request.request_id))
        self._fill(self.pools[request.pool], actions)

    def _why_not_again(self, request: RequestView, event: RequestFailed) -> Why | None:
        """Return None where a failed request has another attempt; the policy set's `retry` says when."""
        gone = self._book.gone.get(request.pool)
        if not event.retryable or request.num_attempts >= request.max_attempts:
            return gone or "failed"
        if gone == "closed":
            return "closed"
        if is_too_long(event.retry_after_s, request.max_retry_wait_s):
            return "wait"
        return "draining" if self._is_draining else None

    def _request_cancelled(self, event: RequestCancelled, actions: list[Action]) -> None:
        request = self.requests.pop(event.request_id)
        self._turns.break_off(request)
        pool = self.pools[request.pool]
        if request.replica_id is not None:
            actions.append(Abort(request.request_id))
            self._leave_replica(request, actions, is_warm=False)
        else:
            self._forget_place(pool, request)
        self._unpark(request.request_id)
        self._fill(pool, actions)

    def _workflow_left(self, event: WorkflowLeft, actions: list[Action]) -> None:
        if self._between_calls.close(event.pool, event.workflow_id) is not None:
            self._fill(self.pools[event.pool], actions)

    def _workflow_ended(self, event: WorkflowEnded, actions: list[Action]) -> None:
        self._turns.leave(event.workflow_id)
        for name, pool in self.pools.items():
            self._between_calls.close(name, event.workflow_id)
            self._fill(pool, actions)

    def _timer_fired(self, event: TimerFired, actions: list[Action]) -> None:
        touched = {name: pool for name, pool in self.pools.items() if pool.aside and pool.call_back(event.time_s)}
        for request_id in self._delayed.due(event.time_s):
            request = self.requests[request_id]
            touched[request.pool] = self.pools[request.pool]
            self._enqueue(touched[request.pool], request)
        for pool in touched.values():
            self._fill(pool, actions)

    def _steps_ordered(self, event: StepsOrdered, actions: list[Action]) -> None:
        self._step_order.order(event)
        for pool in self.pools.values():
            self._filler.rank_all(pool)
            self._fill(pool, actions)

    def _drain(self, event: Draining, actions: list[Action]) -> None:
        self._is_draining = True
        for request_id in self._delayed.clear():
            self._give_up(self.requests[request_id], actions, "draining")

    def _give_up(self, request: RequestView, actions: list[Action], why: Why = "failed") -> None:
        del self.requests[request.request_id]
        self._turns.break_off(request)
        actions.append(GiveUp(request.request_id, request.num_attempts, why))

    def _fill(self, pool: Pool, actions: list[Action]) -> None:
        pool = self._devices.starting(pool)
        for request, replica, verdict in self._filler.moves(pool):
            if isinstance(verdict, Deferred):
                self._defer(request, replica, verdict, actions)
            else:
                self._start(pool, request, replica, actions)

    def _defer(self, request: RequestView, replica: ReplicaView, verdict: Deferred, actions: list[Action]) -> None:
        if verdict.until_s is None:
            assert verdict.until in self.requests, f"deferred until {verdict.until}, which is not there"
            self._parked.park(request, replica, verdict.until)
        elif verdict.until_s != request.aside_until_s:
            request.aside_until_s = verdict.until_s
            actions.append(WakeAt(verdict.until_s))

    def _start(self, pool: Pool, request: RequestView, replica: ReplicaView, actions: list[Action]) -> None:
        request.replica_id = replica.replica_id
        request.num_attempts += 1
        self._num_running += 1
        replica.num_running += 1
        tokens = request.num_prompt_tokens, request.num_expected_output_tokens
        replica.running.hold(request.request_id, request.prefix_key, *tokens)
        num_known = replica.prefixes.begin(request.prefix_key, request.request_id)
        self._turns.start(request, num_known * block_tokens(request.prefix_key, request.num_prompt_tokens))
        pool.num_free -= 1
        pool.num_starts_above = 0 if request.facts.tier in LOW_TIERS else pool.num_starts_above + 1
        # Others with its prefix wait until it is computed, unless the engine shares what is being computed.
        leads = not replica.shares_cold_prefixes and pool.prefixes.is_shared(request.prefix_key[num_known:])
        actions.append(Submit(request.request_id, replica.replica_id, request.num_attempts, leads))

    def _leave_replica(self, request: RequestView, actions: list[Action], *, is_warm: bool) -> ReplicaView:
        assert request.replica_id is not None, f"{request.request_id} is not running"
        replica = self._replicas[request.replica_id]
        self._num_running -= 1
        replica.num_running -= 1
        replica.running.release(request.request_id)
        replica.prefixes.end(request.prefix_key, request.request_id, is_warm=is_warm)
        self.pools[request.pool].num_free += replica.is_serving and replica.num_free > 0
        request.replica_id = None
        self._unload_if_drained(replica, actions)
        return replica

    def _enqueue(self, pool: Pool, request: RequestView) -> None:
        self._filler.look_at(pool)
        rank = self._policies.rank(request, self._view)
        heapq.heappush(pool.waiting, (rank, next(self._sequence), request))

    def _unpark(self, holder: str) -> None:
        for request in self._parked.leave_all(holder):
            self._enqueue(self.pools[request.pool], request)

    def _forget_place(self, pool: Pool, request: RequestView) -> None:
        """Take a request that does not run out of whichever queue holds it. Rare, so linear."""
        pool.forget(request)
        self._arrived = [one for one in self._arrived if one is not request]
        self._delayed.forget(request.request_id)
        self._parked.forget(request)

    def _give_up_gone(self, actions: list[Action]) -> None:
        """Give up what waits for an engine that no worker can load, or whose replicas are lost."""
        gone: dict[str, Why] = {**dict.fromkeys(self._workers.lost_pools(), "unloadable"), **self._book.gone}
        for name, why in gone.items():
            for request in self.pools[name].clear():
                self._give_up(request, actions, why)
