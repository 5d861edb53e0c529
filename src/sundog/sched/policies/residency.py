"""Residency: which engine a worker loads next, and which one goes for it. Pure.

A worker has room for a few engines and may serve more. While a worker loads, waits for an engine to go, or drains one,
the core asks nothing; so each function here sees a worker whose engines all serve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

from sundog.sched.policy import Bring, Keep
from sundog.sched.views import PoolView, ReplicaView, SchedView, WorkerView

SETTLE_S = 0.05
"""Between a call's end and the calls that read its result lies a commit; nothing is taken for idle before that."""


def follow_plan(worker: WorkerView, pools: Mapping[str, PoolView], sched: SchedView) -> Keep | Bring:
    """Follow the plan with model lock and preload after Halo (arXiv 2509.02121, section 5), with the price of a switch
    added.

    An engine stays while calls for it wait. One whose steps have all drained, or that no step has asked for, goes as
    soon as another is wanted: what the plan has next (preload, before any call waits), else what most calls wait for.
    One whose steps may still send calls goes when it idles and the calls waiting elsewhere are worth two switches, or
    when it has idled for as long as two switches take, or when nothing runs that could send it a call. Where calls only
    trickle in, it is drained on the same terms. One that is all the worker's plan has left is there for rows to flow
    through: it goes when none has come for as long as two switches take, or for an engine that no worker has. One that
    the plan has done with here goes though calls wait, where other workers have it too.

    Where the plan orders the steps of engines that take turns, it is kept: an engine whose turn it is stays as one does
    that is all that is left, whoever has what is asked for, and one goes that other workers will have their turn at.
    Elsewhere this loses against a plan of exact times where two engines take turns and the calls come in bursts just
    too small.

    >>> pools = {name: PoolView(name, load_s=10.0, call_s=1.0) for name in ("small", "large")}
    >>> worker = WorkerView("w/0", pools=("small", "large"), max_resident=1, planned=("large",))
    >>> follow_plan(worker, pools, SchedView())
    Bring(pool='large', instead_of=None)
    >>> worker.residents["small"] = ReplicaView("small/0", "small")  # whose steps have all drained
    >>> follow_plan(worker, pools, SchedView())
    Bring(pool='large', instead_of='small')
    """
    planned, asked = _next_planned(worker, sched), _most_asked(worker, pools, sched)
    if len(worker.residents) < worker.max_resident:
        wanted = planned or asked
        return Keep() if wanted is None else Bring(wanted)
    for resident in _last_needed_first(worker):
        if planned and _is_left_to_others(resident, worker, pools, sched):
            return Bring(planned, instead_of=resident.pool)
        if _is_idle(resident, pools) and not _is_held(resident, worker, pools) and (wanted := planned or asked):
            return Bring(wanted, instead_of=resident.pool)
    if asked is None:
        return Keep()
    dues = [
        (due_s, number, resident.pool)
        for number, resident in enumerate(_last_needed_first(worker))
        if (due_s := _leaves_at(resident, worker, pools, asked, sched)) is not None
    ]
    if not dues:
        return Keep()
    due_s, _, pool = min(dues)
    return Bring(asked, instead_of=pool) if due_s <= sched.time_s else Keep(until_s=due_s)


def oldest_call_first(worker: WorkerView, pools: Mapping[str, PoolView], sched: SchedView) -> Keep | Bring:
    """Bring the engine of the call that has waited longest, whatever a switch costs: first come, first served.

    Loses whenever two engines take turns: every turn is a load.

    >>> pools = {name: PoolView(name, load_s=10.0, call_s=1.0) for name in ("small", "large")}
    >>> pools["large"].oldest_arrival_s = 3.0
    >>> worker = WorkerView("w/0", pools=("small", "large"), max_resident=1)
    >>> worker.residents["small"] = ReplicaView("small/0", "small")
    >>> oldest_call_first(worker, pools, SchedView())
    Bring(pool='large', instead_of='small')
    """
    waiting = [
        view
        for name in _absent(worker, sched)
        if (view := pools[name]).oldest_arrival_s is not None and view.num_serving == 0
    ]
    if not waiting:
        return Keep()
    oldest = min(waiting, key=_oldest_s)
    if len(worker.residents) < worker.max_resident:
        return Bring(oldest.pool)
    leaving = max(worker.residents.values(), key=lambda resident: _oldest_s(pools[resident.pool]))
    if _oldest_s(pools[leaving.pool]) <= _oldest_s(oldest):
        return Keep()
    return Bring(oldest.pool, instead_of=leaving.pool)


def _oldest_s(view: PoolView) -> float:
    return inf if view.oldest_arrival_s is None else view.oldest_arrival_s


def _absent(worker: WorkerView, sched: SchedView) -> list[str]:
    """Return what the worker could load now."""
    return [
        name
        for name in worker.pools
        if name not in worker.residents and worker.not_before_s.get(name, 0.0) <= sched.time_s
    ]


def _next_planned(worker: WorkerView, sched: SchedView) -> str | None:
    """Return the first engine of the plan that is not here, as far ahead as there is room."""
    absent = _absent(worker, sched)
    return next((name for name in worker.planned[: worker.max_resident] if name in absent), None)


def _most_asked(worker: WorkerView, pools: Mapping[str, PoolView], sched: SchedView) -> str | None:
    """Return the engine with the most work waiting: one that no worker has, or whose queue another replica is worth."""
    asked = [
        view
        for name in _absent(worker, sched)
        if (view := pools[name]).num_waiting
        and (view.num_serving == 0 or view.waiting_s / (view.num_serving + 1) > view.load_s)
    ]
    return max(asked, key=lambda view: view.waiting_s).pool if asked else None


def _last_needed_first(worker: WorkerView) -> Sequence[ReplicaView]:
    """Return the residents, those that the plan needs last, or not at all, first."""

    def distance(resident: ReplicaView) -> int:
        return worker.planned.index(resident.pool) if resident.pool in worker.planned else len(worker.planned)

    return sorted(worker.residents.values(), key=distance, reverse=True)


def _is_idle(resident: ReplicaView, pools: Mapping[str, PoolView]) -> bool:
    return resident.num_running == 0 and pools[resident.pool].num_waiting == 0


def _is_left_to_others(
    resident: ReplicaView, worker: WorkerView, pools: Mapping[str, PoolView], sched: SchedView
) -> bool:
    """Return whether this worker's part of the engine's work is done, by the plan, and other workers have the rest, or
    will have their turn at it."""
    view = pools[resident.pool]
    num_others = max(view.num_serving - 1, view.num_planned if sched.keeps_turns else 0)
    return resident.pool not in worker.planned and num_others > 0


def _is_held(resident: ReplicaView, worker: WorkerView, pools: Mapping[str, PoolView]) -> bool:
    """Return whether calls may come: from steps that have begun, or because the plan has it next."""
    return pools[resident.pool].num_open_steps > 0 or resident.pool in worker.planned[: worker.max_resident]


def _leaves_at(
    resident: ReplicaView, worker: WorkerView, pools: Mapping[str, PoolView], asked: str, sched: SchedView
) -> float | None:
    """Return when it makes room for `asked` though calls may still come for it; None while calls wait, or as things
    are."""
    own, other, idle_since_s = pools[resident.pool], pools[asked], resident.idle_since_s
    if own.lull_since_s is None:
        return None
    two_switches_s = own.load_s + other.load_s
    is_worth_it = other.waiting_s >= two_switches_s
    is_all_that_is_left = worker.planned == (resident.pool,) and other.num_serving > 0
    has_its_turn = resident.pool in worker.planned[: worker.max_resident] and sched.keeps_turns
    if is_all_that_is_left or has_its_turn:
        due_s = inf if idle_since_s is None else max(idle_since_s, own.last_arrival_s) + two_switches_s
    elif idle_since_s is None:
        due_s = own.lull_since_s + two_switches_s if is_worth_it else inf
    else:
        due_s = idle_since_s + (SETTLE_S if is_worth_it else two_switches_s)
    if idle_since_s is not None and sched.quiet_since_s is not None:
        due_s = min(due_s, max(idle_since_s, sched.quiet_since_s) + SETTLE_S)
    return due_s if due_s < inf else None
