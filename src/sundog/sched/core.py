"""The scheduler core: keeps the books and turns each event into actions.

Owns requests, replicas and queues, changed only through `handle`; the books on workers, whose replicas come and go, are
in `workers`. Never does I/O, never reads a clock: hosts perform the actions and report what happened.

A request is waiting (in its pool's queue, or a replica's), parked (until another request's prefill), delayed (until a
time, before a retry; in `delays`), or running (on a replica). It leaves the books when it finished, was given up or
was cancelled.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from sundog.sched.books import Pool
from sundog.sched.delays import DelayBook, is_too_long
from sundog.sched.devices import DeviceBook
from sundog.sched.events import (
    Abort,
    Action,
    Draining,
    Event,
    GiveUp,
    LoadFailed,
    PrefillEnded,
    ReplicaAdded,
    ReplicaDown,
    ReplicaLost,
    ReplicaRemoved,
    ReplicaReported,
    ReplicaUp,
    RequestArrived,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    RowLeft,
    StepDrained,
    Submit,
    TimerFired,
    WakeAt,
    Why,
    WorkerAdded,
    WorkerPlanned,
)
from sundog.sched.filling import Filler
from sundog.sched.histories import KeyedHistory
from sundog.sched.policy import Deferred, PolicySet
from sundog.sched.prefix_index import PrefixIndex, num_common_blocks
from sundog.sched.views import ReplicaView, RequestView, SchedView
from sundog.sched.workers import WorkerBook

MAX_LENGTHS = 200
"""Of the last answers of each step and model, as Past-Future keeps."""
MAX_STEPS = 1000


class SchedulerCore:
    """One instance schedules all pools of one host."""

    def __init__(self, policies: PolicySet) -> None:
        self._policies = policies
        self._pools: dict[str, Pool] = {}
        self._replicas: dict[str, ReplicaView] = {}
        self._requests: dict[str, RequestView] = {}
        self._parked: dict[str, list[str]] = {}
        self._delayed = DelayBook()
        self._is_draining = False
        self._arrived: list[RequestView] = []
        self._open_rows: dict[tuple[str, int], tuple[ReplicaView, tuple[int, ...]]] = {}
        self._lost_pools: list[str] = []
        self._sequence = 0
        self._num_running = 0
        self._output_lengths: KeyedHistory[tuple[str, str]] = KeyedHistory(MAX_LENGTHS, MAX_STEPS)
        self._view = SchedView(output_lengths=self._output_lengths)
        self._filler = Filler(policies, self._view)
        self._devices = DeviceBook(policies.time_slice, self._view, self._pools)
        self._workers = WorkerBook(policies.residency, self._view, self._pools)
        self._handlers: dict[type, Callable[[Any, list[Action]], None]] = {
            ReplicaAdded: self._replica_added,
            RequestArrived: self._request_arrived,
            PrefillEnded: self._prefill_ended,
            RequestFinished: self._request_finished,
            RequestFailed: self._request_failed,
            RequestCancelled: self._request_cancelled,
            RowLeft: self._row_left,
            TimerFired: self._timer_fired,
            Draining: self._drain,
            ReplicaRemoved: self._replica_removed,
            ReplicaDown: lambda event, actions: self._take_out(self._replicas[event.replica_id], actions),
            ReplicaUp: self._replica_up,
            ReplicaLost: self._replica_lost,
            ReplicaReported: self._replica_reported,
            LoadFailed: lambda event, actions: self._workers.fail_load(event, actions),
            WorkerAdded: lambda event, actions: self._workers.add(event),
            WorkerPlanned: lambda event, actions: self._workers.plan(event),
            StepDrained: lambda event, actions: self._workers.drain_step(event),
        }

    def handle(self, event: Event) -> list[Action]:
        """Return what is to be done now that `event` happened. Events come in order of time."""
        self._view.time_s = event.time_s
        actions: list[Action] = []
        if self._workers:
            self._workers.pass_time(event.time_s)
        self._handlers[type(event)](event, actions)
        if self._workers or self._lost_pools:
            self._give_up_lost(actions)
            self._workers.settle(self._num_running + len(self._delayed), actions)
        return actions

    @property
    def num_unfinished(self) -> int:
        return len(self._requests)

    def check(self) -> None:
        """Assert that the books agree with each other; for tests and idle moments."""
        running = [request for request in self._requests.values() if request.replica_id is not None]
        assert self._num_running == len(running)
        for replica in self._replicas.values():
            mine = [request for request in running if request.replica_id == replica.replica_id]
            assert replica.num_running == len(mine) <= replica.max_concurrency, replica
            assert all(request.request_id in replica.running for request in mine), replica
        for pool in self._pools.values():
            serving = [replica for replica in pool.replicas if replica.is_serving]
            assert pool.num_free == sum(replica.max_concurrency - replica.num_running for replica in serving)
        for replica in self._replicas.values():
            queued = [one for one in self._requests.values() if one.parked_at == replica.replica_id]
            queued += [entry[2] for entry in self._pools[replica.pool].at_replica[replica.replica_id]]
            assert replica.num_queued_tokens == sum(one.num_queued_tokens for one in queued), replica
            assert replica.num_waiting == len(self._pools[replica.pool].at_replica[replica.replica_id]), replica
            assert replica.num_open_rows == sum(one is replica for one, _ in self._open_rows.values()), replica
        arrived = [request.request_id for request in self._arrived]
        waiting = [entry[2].request_id for pool in self._pools.values() for entry in pool.all_waiting()]
        parked = [request_id for group in self._parked.values() for request_id in group]
        assert len(parked) == sum(pool.num_parked for pool in self._pools.values())
        assert len(parked) == sum(replica.num_parked for replica in self._replicas.values())
        placed = sorted(
            [*arrived, *waiting, *parked, *self._delayed.request_ids(), *(request.request_id for request in running)]
        )
        assert placed == sorted(self._requests), "every request is in exactly one place"
        assert all(holder in self._requests for holder in self._parked), "parked behind a request that is gone"
        self._devices.check()
        self._workers.check()

    def _replica_added(self, event: ReplicaAdded, actions: list[Action]) -> None:
        assert event.replica_id not in self._replicas, f"replica {event.replica_id} is there already"
        replica = ReplicaView(
            event.replica_id,
            event.pool,
            event.max_concurrency,
            event.max_tokens_in_flight,
            prefixes=PrefixIndex(event.num_prefix_blocks),
            shares_cold_prefixes=event.shares_cold_prefixes,
            worker_id=event.worker_id,
        )
        self._replicas[event.replica_id] = replica
        if event.worker_id is not None:
            self._workers.add_replica(replica)
        pool = self._pools.setdefault(event.pool, Pool())
        pool.add(replica)
        self._devices.add(event.shared_device, event.pool)
        self._fill(pool, actions)

    def _replica_removed(self, event: ReplicaRemoved, actions: list[Action]) -> None:
        replica = self._replicas.pop(event.replica_id)
        assert replica.num_running == 0, f"{event.replica_id} still runs requests"
        self._pools[replica.pool].remove(replica)
        self._devices.count_devices()
        for pool, row_index in [place for place, (where, _) in self._open_rows.items() if where is replica]:
            self._close_row(pool, row_index)
        self._workers.remove_replica(replica, actions)

    def _take_out(self, replica: ReplicaView, actions: list[Action]) -> None:
        pool = self._pools[replica.pool]
        pool.stop_serving(replica)
        replica.is_down = True
        replica.prefixes = PrefixIndex(replica.prefixes.max_blocks)
        self._fill(pool, actions)

    def _replica_up(self, event: ReplicaUp, actions: list[Action]) -> None:
        replica = self._replicas[event.replica_id]
        assert not replica.is_lost, f"{event.replica_id} was not to come back"
        pool = self._pools[replica.pool]
        pool.start_serving(replica)
        self._fill(pool, actions)

    def _replica_lost(self, event: ReplicaLost, actions: list[Action]) -> None:
        replica = self._replicas[event.replica_id]
        replica.is_lost = True
        self._take_out(replica, actions)
        if all(one.is_lost for one in self._pools[replica.pool].replicas):
            self._lost_pools.append(replica.pool)

    def _replica_reported(self, event: ReplicaReported, actions: list[Action]) -> None:
        replica = self._replicas[event.replica_id]
        replica.num_foreign = max(0, event.num_server_running + event.num_server_waiting - replica.num_running)
        replica.kv_usage = event.kv_usage
        replica.num_preemptions = event.num_preemptions

    def _request_arrived(self, event: RequestArrived, actions: list[Action]) -> None:
        assert event.request_id not in self._requests, f"request {event.request_id} is there already"
        pool = self._pools.setdefault(event.pool, Pool())
        last_key = self._close_row(event.pool, event.row_index)
        request = RequestView(
            event.request_id,
            event.pool,
            event.time_s,
            event.row_index,
            event.depth,
            event.num_prompt_tokens,
            event.num_expected_output_tokens,
            event.prefix_key,
            event.max_attempts,
            max_retry_wait_s=event.max_retry_wait_s,
            node=event.step,
            model=event.pool,
            need_s=event.need_s,
            prefix_order=pool.prefixes.numbers(event.prefix_key),
            has_successor=event.has_successor,
            is_successor=last_key is not None,
            num_inherited_blocks=num_common_blocks(last_key or (), event.prefix_key),
        )
        self._requests[event.request_id] = request
        self._workers.begin_step(event.pool, event.step)
        self._arrived.append(request)
        if not event.more_follow:
            self._take_arrived(actions)

    def _take_arrived(self, actions: list[Action]) -> None:
        """All are known before the first is ranked."""
        arrived, self._arrived = self._arrived, []
        for request in arrived:
            self._enqueue(self._pools[request.pool], request)
        for name in dict.fromkeys(request.pool for request in arrived):
            self._fill(self._pools[name], actions)

    def _prefill_ended(self, event: PrefillEnded, actions: list[Action]) -> None:
        request = self._requests[event.request_id]
        assert request.replica_id is not None, f"{event.request_id} is not running"
        replica = self._replicas[request.replica_id]
        replica.prefixes.end(request.prefix_key, request.request_id, is_warm=True)
        self._unpark(request.request_id)
        self._fill(self._pools[request.pool], actions)

    def _request_finished(self, event: RequestFinished, actions: list[Action]) -> None:
        request = self._requests.pop(event.request_id)
        replica = self._replicas[self._leave_replica(request, is_warm=True)]
        if event.num_output_tokens:
            self._output_lengths.add((request.node, request.model), event.num_output_tokens)
        if request.has_successor:
            self._open_row(request, replica)
        self._pools[request.pool].num_finished += 1
        self._unpark(request.request_id)
        self._fill(self._pools[request.pool], actions)

    def _request_failed(self, event: RequestFailed, actions: list[Action]) -> None:
        request = self._requests[event.request_id]
        replica_id = self._leave_replica(request, is_warm=False)
        request.failed_replicas = (*request.failed_replicas, replica_id)
        self._unpark(request.request_id)
        if not event.retryable or request.num_attempts >= request.max_attempts:
            self._give_up(request, actions)
        elif is_too_long(event.retry_after_s, request.max_retry_wait_s):
            self._give_up(request, actions, "wait")
        elif self._is_draining:
            self._give_up(request, actions, "draining")
        else:
            at_s = event.time_s + self._policies.retry(request, event.retry_after_s, self._view)
            self._delayed.add(request.request_id, at_s)
            actions.append(WakeAt(at_s, request.request_id))
        self._fill(self._pools[request.pool], actions)

    def _request_cancelled(self, event: RequestCancelled, actions: list[Action]) -> None:
        request = self._requests.pop(event.request_id)
        pool = self._pools[request.pool]
        if request.replica_id is not None:
            self._leave_replica(request, is_warm=False)
            actions.append(Abort(request.request_id))
        else:
            self._forget_place(pool, request)
        self._unpark(request.request_id)
        self._fill(pool, actions)

    def _row_left(self, event: RowLeft, actions: list[Action]) -> None:
        if self._close_row(event.pool, event.row_index) is not None:
            self._fill(self._pools[event.pool], actions)

    def _timer_fired(self, event: TimerFired, actions: list[Action]) -> None:
        touched: dict[str, Pool] = {}
        for request_id in self._delayed.due(event.time_s):
            request = self._requests[request_id]
            touched[request.pool] = self._pools[request.pool]
            self._enqueue(touched[request.pool], request)
        for pool in touched.values():
            self._fill(pool, actions)

    def _drain(self, event: Draining, actions: list[Action]) -> None:
        self._is_draining = True
        for request_id in self._delayed.clear():
            self._give_up(self._requests[request_id], actions, "draining")

    def _give_up(self, request: RequestView, actions: list[Action], why: Why = "failed") -> None:
        del self._requests[request.request_id]
        actions.append(GiveUp(request.request_id, request.num_attempts, why))

    def _fill(self, pool: Pool, actions: list[Action]) -> None:
        pool = self._devices.starting(pool)
        for request, replica, verdict in self._filler.moves(pool):
            if isinstance(verdict, Deferred):
                self._park(pool, request, replica, verdict)
            else:
                self._start(pool, request, replica, actions)

    def _park(self, pool: Pool, request: RequestView, replica: ReplicaView, verdict: Deferred) -> None:
        assert verdict.until in self._requests, f"deferred until {verdict.until}, which is not there"
        self._parked.setdefault(verdict.until, []).append(request.request_id)
        request.parked_at = replica.replica_id
        replica.queue(request)
        replica.num_parked += 1
        pool.num_parked += 1

    def _start(self, pool: Pool, request: RequestView, replica: ReplicaView, actions: list[Action]) -> None:
        request.replica_id = replica.replica_id
        request.num_attempts += 1
        self._num_running += 1
        replica.num_running += 1
        tokens = request.num_prompt_tokens, request.num_expected_output_tokens
        replica.running.hold(request.request_id, request.prefix_key, *tokens)
        num_known = replica.prefixes.begin(request.prefix_key, request.request_id)
        pool.num_free -= 1
        # Others with its prefix wait until it is computed, unless the engine shares what is being computed.
        leads = not replica.shares_cold_prefixes and pool.prefixes.is_shared(request.prefix_key[num_known:])
        actions.append(Submit(request.request_id, replica.replica_id, request.num_attempts, leads))

    def _leave_replica(self, request: RequestView, *, is_warm: bool) -> str:
        assert request.replica_id is not None, f"{request.request_id} is not running"
        replica = self._replicas[request.replica_id]
        self._num_running -= 1
        replica.num_running -= 1
        replica.running.release(request.request_id)
        replica.prefixes.end(request.prefix_key, request.request_id, is_warm=is_warm)
        self._pools[request.pool].num_free += replica.is_serving
        request.replica_id = None
        return replica.replica_id

    def _open_row(self, request: RequestView, replica: ReplicaView) -> None:
        """Its next call is promised a slot where the KV blocks of its prompt are."""
        self._close_row(request.pool, request.row_index)
        self._open_rows[request.pool, request.row_index] = replica, request.prefix_key
        replica.num_open_rows += 1

    def _close_row(self, pool: str, row_index: int) -> tuple[int, ...] | None:
        """The prefix key of its last call; None if it was not open."""
        if (place := (pool, row_index)) not in self._open_rows:
            return None
        replica, last_key = self._open_rows.pop(place)
        replica.num_open_rows -= 1
        return last_key

    def _enqueue(self, pool: Pool, request: RequestView) -> None:
        self._filler.look_at(pool)
        rank = self._policies.rank(request, self._view)
        heapq.heappush(pool.waiting, (rank, self._next_sequence(), request))

    def _unpark(self, holder: str) -> None:
        for request_id in self._parked.pop(holder, ()):
            request = self._requests[request_id]
            self._leave_parking(request)
            self._enqueue(self._pools[request.pool], request)

    def _leave_parking(self, request: RequestView) -> None:
        assert request.parked_at is not None, f"{request.request_id} is not parked"
        replica = self._replicas[request.parked_at]
        replica.unqueue(request)
        replica.num_parked -= 1
        self._pools[request.pool].num_parked -= 1
        request.parked_at = None

    def _forget_place(self, pool: Pool, request: RequestView) -> None:
        """Take a request that does not run out of whichever queue holds it. Rare, so linear."""
        request_id = request.request_id
        pool.forget(request)
        self._delayed.forget(request_id)
        for group in self._parked.values():
            if request_id in group:
                group.remove(request_id)
                self._leave_parking(request)

    def _give_up_lost(self, actions: list[Action]) -> None:
        """What waits for an engine that no worker can load, or whose replicas are lost, waits in vain."""
        for name in (*self._workers.lost_pools(), *self._lost_pools):
            for request in self._pools[name].clear():
                self._give_up(request, actions)

    def _next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence
