"""The status of a live host: a pure function of what it holds at one moment.

Owns what is counted together, and who sees what: without a key all, with one the flows that it may use and the messages
of its own tenant. Never counts anything; the host does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil

from sundog.access.principal import Principal
from sundog.host.waits import Wait
from sundog.ir.physical import PhysicalPlan, calls_of
from sundog.ir.pool_names import engine_of, label_of
from sundog.ledger.ledger import NO_LIMITS
from sundog.live.failures import FailureNote, Failures
from sundog.live.figures import NO_STEP_COUNTS, CallFigures, FlowFigures
from sundog.live.flow import LiveFlow
from sundog.live.host import LiveHost
from sundog.live.models import MAX_WAITING
from sundog.sched.books.pool import Pool
from sundog.sched.views import ReplicaView, RequestView
from sundog.serve.batches.figures import BatchFigures
from sundog.serve.seeing.status import (
    AccountStatus,
    BatchesStatus,
    EngineStatus,
    FailureCount,
    FailureMessage,
    FlowStatus,
    GatewayStatus,
    Latency,
    ReplicaStatus,
    SavingsStatus,
    Status,
    StepStatus,
)
from sundog.store.spending import SpendingChange, SpentBook

NUM_LAST_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ServedPlans:
    """The facts of a server that the host itself does not know."""

    #: By flow.
    plans: Mapping[str, PhysicalPlan]
    #: By file, those of flows that the one who asks may use.
    reload_errors: Mapping[str, str]
    batches: BatchFigures
    is_stopping: bool
    version: str


def status_of_host(host: LiveHost, served: ServedPlans, principal: Principal | None) -> Status:
    """Return what the host does now, as far as `principal` may see it; None may see all."""
    flows = [flow for flow in host.flows.values() if principal is None or principal.allows_flow(flow.name)]
    names = {flow.name for flow in flows}
    requests = list(host.driver.requests.values())
    return Status(
        version=served.version,
        state="stopping" if served.is_stopping else "serving",
        uptime_s=round(host.driver.now_s(), 1),
        flows=tuple(_flow(flow, host.figures[flow.name], served.plans.get(flow.name), requests) for flow in flows),
        engines=tuple(_engines(host)),
        gateway=_gateway(host, requests),
        batches=_batches(served.batches),
        savings=_savings(host),
        accounts=tuple(_accounts(host, principal)),
        failures=tuple(_kinds(host.failures, names)),
        last_failures=tuple(_last(host.failures, names, principal)),
        reload_errors=dict(served.reload_errors),
    )


def _flow(
    flow: LiveFlow, figures: FlowFigures, plan: PhysicalPlan | None, requests: Sequence[RequestView]
) -> FlowStatus:
    open_calls = [one for one in requests if one.facts.flow == flow.name]
    names = [call.name for call in calls_of(plan.nodes)] if plan is not None else []
    names += [name for name in figures.steps if name not in names]
    return FlowStatus(
        flow.name,
        "live",
        flow.num_rows_in_flight,
        flow.max_rows,
        flow.num_accepted,
        dict(flow.num_ended_rows),
        figures.num_prompt_tokens,
        figures.num_cached_tokens,
        figures.num_output_tokens,
        _latency(flow.recent_s, None),
        tuple(_step(name, figures, open_calls) for name in names),
    )


def _step(name: str, figures: FlowFigures, open_calls: Sequence[RequestView]) -> StepStatus:
    counts = figures.steps.get(name, NO_STEP_COUNTS)
    own = [one for one in open_calls if one.facts.node == name]
    num_running = sum(one.replica_id is not None for one in own)
    waits = len(own) - num_running
    return StepStatus(
        name, num_running, waits, counts.num_asked, counts.num_executed, counts.num_reused, counts.num_failed
    )


def _engines(host: LiveHost) -> Iterable[EngineStatus]:
    waits = {wait.target: wait for wait in host.waits.by_pool()}
    # Engines first: tools stand below.
    for name in sorted(host.driver.pools, key=lambda name: (engine_of(name) is None, name)):
        yield _engine(name, host.driver.pools[name], host, waits)


def _engine(name: str, pool: Pool, host: LiveHost, waits: Mapping[str, Wait]) -> EngineStatus:
    calls = [figures for key, figures in host.calls.items() if key[0] == name]
    attempts = sum((one.num_by_outcome for one in calls), Counter[str]())
    delayed = waits.get(label_of(name))
    is_engine = engine_of(name) is not None
    return EngineStatus(
        label_of(name),
        "engine" if is_engine else "tool",
        host.engines.model_of(name) if is_engine else "",
        pool.num_waiting + pool.num_parked,
        0 if delayed is None else delayed.num_calls,
        dict(attempts),
        _of_calls(calls),
        sum(one.num_prompt_tokens for one in calls),
        sum(one.num_cached_tokens for one in calls),
        sum(one.num_output_tokens for one in calls),
        tuple(_replica(replica, host) for replica in pool.replicas),
    )


def _replica(replica: ReplicaView, host: LiveHost) -> ReplicaStatus:
    figures = host.replicas.get(replica.replica_id)
    num_queried = 0 if figures is None else figures.num_queried_tokens
    return ReplicaStatus(
        replica.replica_id,
        _state(replica),
        replica.num_running,
        replica.max_concurrency,
        replica.num_waiting + replica.num_parked,
        replica.num_foreign,
        _kv_usage(replica),
        figures.num_cached_tokens / num_queried if figures is not None and num_queried else None,
    )


def _state(replica: ReplicaView) -> str:
    if replica.is_lost:
        return "lost"
    if replica.is_down:
        return "down"
    return "draining" if replica.is_draining else "serving"


def _kv_usage(replica: ReplicaView) -> float | None:
    """Return what its server told last, else the share that the running requests will have at their ends."""
    if replica.kv_usage or not replica.max_tokens_in_flight:
        return replica.kv_usage or None
    return min(1.0, replica.running.num_tokens / replica.max_tokens_in_flight)


def _gateway(host: LiveHost, requests: Sequence[RequestView]) -> GatewayStatus:
    programs = {one.workflow_id for one in requests if not one.facts.flow and one.workflow_id}
    return GatewayStatus(host.models.num_in_flight, MAX_WAITING, len(programs), host.shared.num_reused)


def _batches(figures: BatchFigures) -> BatchesStatus:
    ended = {str(outcome): number for outcome, number in figures.num_ended_lines.items()}
    return BatchesStatus(figures.num_open, figures.num_lines_in_flight, ended)


def _savings(host: LiveHost) -> SavingsStatus:
    one_by_one = [figures for (_, flow, _), figures in host.calls.items() if not flow]
    num_made = sum(one.num_by_outcome["succeeded"] for one in one_by_one)
    num_merged = host.shared.num_reused
    return SavingsStatus(
        sum(one.num_asked for one in host.figures.values()) + num_made + num_merged,
        sum(one.num_reused for one in host.figures.values()) + num_merged,
        sum(one.num_prompt_tokens for one in host.calls.values()),
        sum(one.num_cached_tokens for one in host.calls.values()),
    )


def _accounts(host: LiveHost, principal: Principal | None) -> Iterable[AccountStatus]:
    """Yield the accounts of the one who asks, where they have limits."""
    if principal is None:
        return
    book = SpentBook(host.store)
    for scope, limits in principal.scopes:
        if limits == NO_LIMITS:
            continue
        found = book.written(scope) or SpendingChange()
        yield AccountStatus(
            scope.kind,
            principal.tenant if scope.kind == "tenant" else scope.name,
            found.spent.usd,
            found.reserved.usd,
            limits.max_usd,
            found.spent.num_tokens,
            found.reserved.num_tokens,
            limits.max_tokens,
        )


def _kinds(failures: Failures, flows: set[str]) -> Iterable[FailureCount]:
    for kind, number in failures.num_by_kind.most_common():
        if not kind.flow or kind.flow in flows:
            yield FailureCount(*kind, number)


def _last(failures: Failures, flows: set[str], principal: Principal | None) -> Iterable[FailureMessage]:
    """Yield the last messages, which may quote what their clients have sent: a key sees those of its tenant."""
    shown = [one for one in reversed(failures.last) if principal is None or _is_own(one, flows, principal)]
    for one in shown[:NUM_LAST_SHOWN]:
        at = datetime.fromtimestamp(one.at, UTC).isoformat(timespec="seconds")
        yield FailureMessage(at, *one.kind, one.message)


def _is_own(failure: FailureNote, flows: set[str], principal: Principal) -> bool:
    return failure.tenant == principal.tenant and (not failure.kind.flow or failure.kind.flow in flows)


def _of_calls(calls: Sequence[CallFigures]) -> Latency | None:
    number = sum(sum(one.num_by_bucket) for one in calls)
    recent = [seconds for one in calls for seconds in one.recent_s]
    return _latency(recent, sum(one.total_s for one in calls) / number if number else None, number)


def _latency(recent: Iterable[float], mean_s: float | None, number: int | None = None) -> Latency | None:
    """Return the figures of some times, None where there are none; `mean_s` and `number`: of all, also the earlier
    ones."""
    ordered = sorted(recent)
    if not ordered:
        return None
    mean_s = sum(ordered) / len(ordered) if mean_s is None else mean_s
    return Latency(number or len(ordered), mean_s, _at(ordered, 0.5), _at(ordered, 0.95))


def _at(ordered: Sequence[float], share: float) -> float:
    """Return the least of some ordered values that so large a share of them does not exceed."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
