"""The core's books on workers: places where engines come and go.

Owns workers, what is planned for them, loads under way, and how long loads and calls take; asks the residency policy
and carries its answer out. Never decides which engine a worker gets.

An engine of a worker is coming (its predecessor leaves, or it loads), resident, or leaving: it takes no further
request, and is unloaded when its last one has ended.
"""

from __future__ import annotations

from collections.abc import Iterator

from sundog.sched.books.pool import Pool
from sundog.sched.events import (
    Action,
    Load,
    LoadFailed,
    StepDrained,
    Unload,
    WakeAt,
    WorkerAdded,
    WorkerPlanned,
)
from sundog.sched.facts import step_id
from sundog.sched.policy import Bring, Residency
from sundog.sched.views import PoolView, ReplicaView, SchedView, WorkerView

MAX_LOAD_ATTEMPTS = 3
LOAD_RETRY_S = 1.0
MIN_MEASURED_CALLS = 5


class WorkerBook:
    """This class has the books of all workers. It writes the pools' counts, the idle times of residents and the view's
    `quiet_since_s`; the rest of `sched` is the core's."""

    def __init__(
        self,
        residency: Residency,
        sched: SchedView,
        pools: dict[str, Pool],
    ) -> None:
        self._residency = residency
        self._sched = sched
        self._pools = pools
        self._workers: dict[str, WorkerView] = {}
        self._views: dict[str, PoolView] = {}
        self._steps: dict[str, list[tuple[str, str]]] = {}
        self._open: dict[str, str] = {}
        self._last_s = 0.0

    def __bool__(self) -> bool:
        return bool(self._workers)

    def add(self, event: WorkerAdded) -> None:
        """Add a worker, which must not be there, and a view of each pool that it may load."""
        assert event.worker_id not in self._workers, f"worker {event.worker_id} is there already"
        self._workers[event.worker_id] = WorkerView(event.worker_id, event.pools, event.max_resident)
        for pool, load_s, call_s in zip(event.pools, event.load_s, event.call_s, strict=True):
            self._pools.setdefault(pool, Pool())
            self._views.setdefault(pool, PoolView(pool, load_s, call_s, lull_since_s=event.time_s))

    def plan(self, event: WorkerPlanned) -> None:
        """Take in what a worker shall run, in order, from now on."""
        steps = (step_id(event.flow, step) for step in event.steps)
        self._steps[event.worker_id] = list(zip(steps, event.pools, strict=True))
        self._look_ahead(event.worker_id)

    def begin_step(self, pool: str, step: str) -> None:
        """A call of the step has come: others may."""
        if pool in self._views:
            self._open[step] = pool
            self._views[pool].last_arrival_s = self._sched.time_s

    def drain_step(self, event: StepDrained) -> None:
        """Take a step that has drained out of every worker's plan; one that comes again stands last there."""
        drained = step_id(event.flow, event.step)
        self._open.pop(drained, None)
        for worker_id, steps in self._steps.items():
            again = [one for one in steps if one[0] == drained and event.comes_again]
            self._steps[worker_id] = [one for one in steps if one[0] != drained] + again
            self._look_ahead(worker_id)

    def add_replica(self, replica: ReplicaView) -> None:
        """The load that was asked for has ended: from now on, the mean of what loads took is expected."""
        worker, view = self._loading(replica.worker_id, replica.pool), self._views[replica.pool]
        took_s = self._sched.time_s - worker.load_began_s
        view.load_s = (view.load_s * view.num_loads + took_s) / (view.num_loads + 1)
        view.num_loads += 1
        worker.coming = None
        worker.is_loading = False
        worker.num_failures.pop(replica.pool, None)
        worker.residents[replica.pool] = replica

    def remove_replica(self, replica: ReplicaView, actions: list[Action]) -> None:
        """The engine has gone; the one that it made room for is loaded now."""
        assert replica.worker_id is not None, f"no worker has loaded {replica.replica_id}"
        worker = self._workers[replica.worker_id]
        assert worker.leaving is replica, f"{replica.replica_id} was not to go"
        worker.leaving = None
        worker.is_unloading = False
        self._load(worker, actions)

    def fail_load(self, event: LoadFailed, actions: list[Action]) -> None:
        """Note that a load has failed: another attempt follows later, or never again on this worker."""
        worker = self._loading(event.worker_id, event.pool)
        worker.coming = None
        worker.is_loading = False
        num_failures = worker.num_failures[event.pool] = worker.num_failures.get(event.pool, 0) + 1
        if event.retryable and num_failures < MAX_LOAD_ATTEMPTS:
            worker.not_before_s[event.pool] = event.time_s + LOAD_RETRY_S * 2.0 ** (num_failures - 1)
            actions.append(WakeAt(worker.not_before_s[event.pool]))
        else:
            worker.pools = tuple(pool for pool in worker.pools if pool != event.pool)

    def lost_pools(self) -> Iterator[str]:
        """Yield the pools that were given to workers and that no worker can load any more."""
        for pool in self._views:
            if not any(pool in worker.pools for worker in self._workers.values()):
                yield pool

    def pass_time(self, time_s: float) -> None:
        """Called before an event changes the books: what has run until now has run so long."""
        for worker in self._workers.values():
            for resident in worker.engines():
                if resident.num_running:
                    self._views[resident.pool].busy_s += time_s - self._last_s
        self._last_s = time_s

    def settle(self, num_active: int, actions: list[Action]) -> None:
        """Called after an event: look at every worker. `num_active`: requests that run, or wait for a time."""
        self._refresh(num_active)
        for worker in self._workers.values():
            if worker.coming is None:
                self._ask(worker, actions)
            if worker.leaving is not None and worker.leaving.num_running == 0 and not worker.is_unloading:
                worker.is_unloading = True
                actions.append(Unload(worker.leaving.replica_id))

    def check(self) -> None:
        """Assert that the books agree with each other."""
        for worker in self._workers.values():
            num_places = len(worker.residents) + (worker.coming is not None)
            assert num_places <= worker.max_resident, worker
            assert worker.coming is not None or not (worker.is_loading or worker.leaving), worker
            assert not (worker.is_loading and worker.leaving), worker
            assert worker.coming not in worker.residents, worker
            assert all(one.is_draining == (one is worker.leaving) for one in worker.engines()), worker

    def _loading(self, worker_id: str | None, pool: str) -> WorkerView:
        worker = self._workers[worker_id or ""]
        assert (worker.is_loading, worker.coming) == (True, pool), f"{pool} was not to be loaded on {worker_id}"
        return worker

    def _look_ahead(self, worker_id: str) -> None:
        self._workers[worker_id].planned = tuple(dict.fromkeys(pool for _, pool in self._steps[worker_id]))
        for name, view in self._views.items():
            view.num_planned = sum(name in worker.planned for worker in self._workers.values())

    def _refresh(self, num_active: int) -> None:
        sched, time_s = self._sched, self._sched.time_s
        num_active += sum(worker.coming is not None for worker in self._workers.values())
        sched.quiet_since_s = None if num_active else _since(sched.quiet_since_s, time_s)
        for view in self._views.values():
            self._refresh_pool(view)
        for worker in self._workers.values():
            for resident in worker.residents.values():
                self._views[resident.pool].num_serving += 1
                is_idle = resident.num_running == 0 and self._views[resident.pool].num_waiting == 0
                resident.idle_since_s = _since(resident.idle_since_s, time_s) if is_idle else None
            if worker.coming is not None:
                self._views[worker.coming].num_serving += 1

    def _refresh_pool(self, view: PoolView) -> None:
        pool = self._pools[view.pool]
        view.num_serving = 0
        first = pool.first_waiting()
        view.num_waiting = pool.num_waiting + pool.num_parked
        view.oldest_arrival_s = None if first is None else first[2].arrival_time
        view.lull_since_s = None if view.num_waiting else _since(view.lull_since_s, self._sched.time_s)
        view.num_open_steps = sum(name == view.pool for name in self._open.values())
        if pool.num_finished >= MIN_MEASURED_CALLS:
            view.call_s = view.busy_s / pool.num_finished

    def _ask(self, worker: WorkerView, actions: list[Action]) -> None:
        answer = self._residency(worker, self._views, self._sched)
        if isinstance(answer, Bring):
            self._bring(worker, answer, actions)
        elif answer.until_s is not None and not self._sched.time_s < worker.wake_s <= answer.until_s:
            worker.wake_s = answer.until_s
            actions.append(WakeAt(answer.until_s))

    def _bring(self, worker: WorkerView, answer: Bring, actions: list[Action]) -> None:
        assert answer.pool in worker.pools, f"{worker.worker_id} cannot have {answer.pool}"
        worker.coming = answer.pool
        self._views[answer.pool].num_serving += 1
        if answer.instead_of is None:
            self._load(worker, actions)
            return
        leaving = worker.leaving = worker.residents.pop(answer.instead_of)
        self._pools[leaving.pool].stop_serving(leaving)
        leaving.is_draining = True
        self._views[leaving.pool].num_serving -= 1

    def _load(self, worker: WorkerView, actions: list[Action]) -> None:
        assert worker.coming is not None, f"nothing is to come to {worker.worker_id}"
        worker.is_loading = True
        worker.load_began_s = self._sched.time_s
        actions.append(Load(worker.worker_id, worker.coming))


def _since(known_s: float | None, now_s: float) -> float:
    return now_s if known_s is None else known_s
