"""One process's part in a run, without files and rows: a dispatcher and an executor over a store, a driver and figures
of the test's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sundog.batch.drains import Drains
from sundog.batch.step_facts import call_facts
from sundog.engines.base import Engine
from sundog.execution.calls.attempt import Attempts
from sundog.execution.calls.binder import Binder
from sundog.execution.calls.call_key import RunScope
from sundog.execution.calls.dispatch import Dispatcher
from sundog.execution.calls.exchange import CallExchange, ResultPlaces
from sundog.execution.calls.requests import Requests
from sundog.execution.executor import RowExecutor
from sundog.host.driver import Driver
from sundog.ir.physical import PhysicalPlan, calls_of
from sundog.operators.base import Operator
from sundog.runtime.figures.run_figures import RunFigures
from sundog.sched.core import SchedulerCore
from sundog.sched.events import Event
from sundog.sched.policy import PolicySet
from sundog.secrets import Secrets
from sundog.store.store import Store


class Part:
    """`driver`, `figures` and `executor` of one run of `plan`; made on a running loop. `engines` by replica, each the
    only one of its pool; `identities`: of engines, by name."""

    def __init__(
        self,
        plan: PhysicalPlan,
        store: Store,
        policies: PolicySet,
        log: Callable[[Event], None],
        operators: Mapping[str, Operator],
        *,
        engines: Mapping[str, Engine] | None = None,
        identities: Mapping[str, Mapping[str, Any]] | None = None,
        exchange: CallExchange | None = None,
        **scope: Any,
    ) -> None:
        """`scope`: fields of RunScope beside its facts."""
        flow, secrets, engines = plan.logical.name, Secrets({}), engines or {}
        by_pool = {f"engine:{replica_id.partition('/')[0]}": engine for replica_id, engine in engines.items()}
        run = RunScope(**scope, facts=call_facts(flow, plan.nodes))
        self.figures = RunFigures({})
        self.driver = Driver(SchedulerCore(policies), log, recorder=self.figures.recorder)
        dispatcher = Dispatcher(
            run,
            ResultPlaces(store, exchange),
            self.driver,
            Binder(run, operators, identities or {}, secrets),
            Requests(run, by_pool, {}, secrets, needs_prefixes=False),
            Attempts(run, self.driver, operators, engines, {call.pool: 64 for call in calls_of(plan.nodes)}, secrets),
            self.figures,
        )
        # Nobody asks here which steps have drained.
        drains = Drains(plan.tables, 1, lambda step, comes_again: None)
        drains.begin("", 0)
        self.executor = RowExecutor(
            plan.tables[0], plan.logical.constants, dispatcher, self.figures.observations, drains
        )
