"""The live host: one scheduler core, one driver, one store and one set of engines for all that comes.

Owns their life, and which flows are served. Never reads a flow file and never speaks HTTP; serve does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sundog.batch.step_facts import plan_facts
from sundog.cost.history import mean_call_s
from sundog.deployment import identities, tool_limits, used_engines
from sundog.errors import StoreError
from sundog.execution.agents.turn_facts import turn_facts
from sundog.execution.executor import RowExecutor
from sundog.execution.plan_calls import CallMeans, dispatcher_of
from sundog.host.attempt import Attempt
from sundog.host.beside import beside
from sundog.host.driver import Driver
from sundog.host.recorder import Recorder
from sundog.host.waits import Waits
from sundog.ir.physical import PhysicalPlan
from sundog.ir.pool_names import label_of
from sundog.ir.values.canonical import describe_value, fingerprint
from sundog.live.accounts import LiveAccounts
from sundog.live.budgets import ProgramBudgets
from sundog.live.engines import LiveEngines
from sundog.live.failures import Failures
from sundog.live.figures import CallFigures, FlowFigures, ReplicaFigures
from sundog.live.flow import LiveFlow
from sundog.live.models import ModelCalls
from sundog.live.row_runner import RowRunner
from sundog.live.shared_answers import SharedAnswers
from sundog.live.terms import LiveScope
from sundog.live.tracing import LiveTracing, RowRuns
from sundog.measured.node_history import extend_history, read_history
from sundog.operators.base import Operator
from sundog.sched.core import SchedulerCore
from sundog.sched.policy import POLICIES, PolicySet
from sundog.secrets import Secrets
from sundog.servers.servers import Servers
from sundog.store.accepted import AcceptedRequests
from sundog.store.runs import RunList
from sundog.store.store import Store

TICK_S = 2.0
LIVE_POLICY = "live"
GATEWAY = "gateway"
"""In the place of a run: the calls of models that came one by one."""


@dataclass(frozen=True, slots=True)
class Served:
    """A flow that is to be served: its plan, and an operator for each kind of step in it."""

    plan: PhysicalPlan
    operators: Mapping[str, Operator]

    @property
    def name(self) -> str:
        return self.plan.logical.name


class LiveHost:
    """One process's live host. `open_live_host` opens it."""

    def __init__(
        self,
        state_dir: Path,
        secrets: Secrets,
        policies: PolicySet,
        store: Store,
        stack: AsyncExitStack,
        locks: ExitStack,
        tracing: LiveTracing | None = None,
    ) -> None:
        self._state_dir = state_dir
        self._secrets = secrets
        self._policies = policies
        #: Results, rows, and all else that outlives the process.
        self.store = store
        self._stack = stack
        self._runs = RunList(store, state_dir)
        self.engines = LiveEngines(Servers(state_dir, secrets), secrets)
        self.recorder = Recorder(self._heard)
        self.waits = Waits(label_of)
        #: The driver of all requests.
        self.driver = self._driver(tracing)
        #: None where nobody traces.
        self.tracing = tracing
        #: The calls of models that come one by one.
        self.models = ModelCalls(self.engines, self.driver)
        #: The accounts of limits, and the budgets of programs among them.
        self.accounts = LiveAccounts(store, lambda: locks.enter_context(self._runs.lock(fingerprint(["accounts"]))))
        self.budgets = ProgramBudgets(store, self.accounts)
        self.budgets.forget_old()
        #: The answers that equal calls of models have in common.
        self.shared = SharedAnswers(store, GATEWAY)
        #: By name, the flows that are served.
        self.flows: dict[str, LiveFlow] = {}
        #: By flow, the operators of the plan that is served.
        self._operators: dict[str, Mapping[str, Operator]] = {}
        #: Set where the host cannot go on.
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: By flow, what its calls have shown.
        self.figures: dict[str, FlowFigures] = {}
        #: By pool, flow and step, the attempts of all flows and of models.
        self.calls: dict[tuple[str, str, str], CallFigures] = {}
        #: By replica.
        self.replicas: dict[str, ReplicaFigures] = {}
        #: The failures of rows and attempts.
        self.failures = Failures(secrets.redact)

    def _driver(self, tracing: LiveTracing | None) -> Driver:
        core = SchedulerCore(self._policies)
        if tracing is None:
            return Driver(core, _unlogged, None, self.recorder, self.waits)
        return tracing.driver(core, self.recorder, self.waits, self.engines)

    async def serve(self, served: Served) -> LiveFlow:
        """Serve a flow from now on, in place of the one of its name, whose rows end as they began; and go on with what
        was accepted for it before. ConfigError or EngineError where its engines cannot be opened: then what was
        served before is served on."""
        plan = served.plan
        await self.engines.open(used_engines(plan), self.driver)
        self.engines.open_tools(tool_limits(plan, served.operators), self.driver)
        if self._operators.get(served.name) is not served.operators:
            self._operators[served.name] = served.operators
            for operator in served.operators.values():
                self._stack.push_async_callback(operator.close)
        flow = self.flows.get(served.name)
        if flow is not None:
            flow.renew(self._runner(flow, served), plan.max_rows_in_flight)
            return flow
        flow = LiveFlow(served.name, self._run_id(plan), AcceptedRequests(self.store), self.accounts)
        flow.renew(self._runner(flow, served), plan.max_rows_in_flight)
        await flow.resume()
        self.flows[served.name] = flow
        return flow

    def _run_id(self, plan: PhysicalPlan) -> str:
        """Return the live run of a flow, locked against other processes."""
        command = fingerprint(["live", plan.logical.name])
        self._stack.enter_context(self._runs.lock(command))
        parts = {"plan": describe_value(plan.written), "engines": identities(plan)}
        return self._runs.live(command, plan.logical.name, fingerprint(parts)).run_id

    def _runner(self, flow: LiveFlow, served: Served) -> RowRunner:
        plan, history = served.plan, read_history(self._state_dir, served.name)
        figures = self.figures.setdefault(served.name, FlowFigures())
        facts = plan_facts(plan, mean_call_s(history))
        scope = LiveScope(
            flow.run_id,
            is_fresh=False,
            repeats_unknown_effects=False,
            facts=facts,
            terms=flow.terms,
            payers_of=flow.payers_of,
        )
        means = CallMeans(
            self.store,
            self.driver,
            self.engines.engines,
            self.engines.by_pool,
            self._secrets,
            needs_prefixes=self._policies.needs_prefixes,
            accounts=self.accounts.spending,
        )
        counts = figures if self.tracing is None else self.tracing.counts(figures)
        calls = dispatcher_of(plan, scope, served.operators, means, counts)
        (table,) = plan.tables
        turns = turn_facts(plan, history)
        executor = RowExecutor(table, plan.logical.constants, calls, figures.observations, figures, turns)
        runs: RowRuns = executor
        if self.tracing is not None:
            self.tracing.serves(plan)
            runs = self.tracing.rows(served.name, executor, flow.terms)
        return RowRunner(flow.name, scope, runs, self.store, self.driver, self.failure, self.failures)

    def decoded(self, body: bytes) -> Any:
        """Return the value of the body of a row that has ended."""
        return self.store.decoded(body)

    async def drain(self, within_s: float) -> None:
        """Accept nothing more, and return when all has ended that was accepted, or after `within_s`. What has not
        ended goes on when its flow is served again."""
        drains = [flow.drain(within_s) for flow in self.flows.values()]
        await asyncio.gather(self.models.drain(within_s), *drains)
        self.driver.stop()

    async def close(self) -> None:
        """Let go of all that still runs."""
        await asyncio.gather(self.shared.settle(), *(flow.close() for flow in self.flows.values()))
        _, failures = await self.keep_history()
        if failures:
            raise failures[0]

    async def keep_history(self) -> tuple[list[str], list[StoreError]]:
        """Add to the history what the rows have shown since the last time, and return the flows of which something was
        kept, and why that of others was not: it is added the next time."""
        kept, failures = list[str](), list[StoreError]()
        for name, figures in self.figures.items():
            records = figures.observations.take()
            try:
                if records:
                    await asyncio.to_thread(extend_history, self._state_dir, name, records)
                    kept.append(name)
            except StoreError as error:
                figures.observations.add(records)
                failures.append(error)
        return kept, failures

    async def or_fail(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do some work beside what is served; where it fails, the host cannot go on."""
        try:
            await work()
        except Exception as error:
            if not self.failure.done():
                self.failure.set_exception(error)

    async def tick(self) -> None:
        """Look now and then at what happens outside of this process, as a person's answers."""
        while True:
            await asyncio.sleep(TICK_S)
            self.accounts.look_for_changes()
            for flow in self.flows.values():
                await flow.begin_held()
                await flow.look_for_answers()

    def _heard(self, attempt: Attempt) -> None:
        figures = self.figures.get(attempt.flow)
        # What a client tells of itself makes no key here, so that their number has a bound.
        key = (attempt.pool, "", "") if figures is None else (attempt.pool, attempt.flow, attempt.step)
        calls, replica = self.calls.get(key), self.replicas.get(attempt.replica_id)
        if calls is None:
            calls = self.calls[key] = CallFigures()
        if replica is None:
            replica = self.replicas[attempt.replica_id] = ReplicaFigures()
        calls.heard(attempt)
        replica.heard(attempt)
        if attempt.failure is not None:
            self.failures.attempt_failed(attempt, attempt.failure, time.time())
        if figures is not None:
            figures.heard(attempt, self.engines.model_of(attempt.pool))


def _unlogged(event: object) -> None:
    """Keep no log of events: a live host has no end, and neither would that."""


@asynccontextmanager
async def open_live_host(
    state_dir: Path, secrets: Secrets, policy: str = LIVE_POLICY, tracing: LiveTracing | None = None
) -> AsyncIterator[LiveHost]:
    """Yield a host that serves nothing so far; at the end it lets go of what still runs."""
    # Another process may count what is spent once all of it is on the disk.
    with ExitStack() as locks, closing(Store(state_dir)) as store:
        store.open_writer()
        async with AsyncExitStack() as stack:
            host = LiveHost(state_dir, secrets, POLICIES.get(policy), store, stack, locks, tracing)
            stack.callback(host.accounts.spending.flush)
            stack.push_async_callback(host.engines.close)
            stack.push_async_callback(host.driver.close)
            stack.push_async_callback(host.close)
            async with beside(host.or_fail(host.tick)):
                yield host
