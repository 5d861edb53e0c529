"""The way of the calls of one plan, put together: binder, requests, attempts and dispatcher.

Owns which of them get what. Never runs a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sundog.deployment import call_limits, identities, opened
from sundog.engines.base import Engine
from sundog.execution.calls.attempt import Attempts
from sundog.execution.calls.binder import Binder
from sundog.execution.calls.call_key import RunScope
from sundog.execution.calls.charging import Charging
from sundog.execution.calls.dispatch import CallCounts, Dispatcher
from sundog.execution.calls.exchange import CallExchange, ResultPlaces
from sundog.execution.calls.requests import Requests
from sundog.execution.spending import SpendingAccounts
from sundog.host.driver import Driver
from sundog.ir.physical import PhysicalPlan
from sundog.ir.pool_names import engine_pool
from sundog.ledger.charges import Tariff
from sundog.operators.base import Operator
from sundog.secrets import Secrets
from sundog.store.store import Store


@dataclass(frozen=True, slots=True)
class CallMeans:
    """The means by which a host makes the calls of a plan."""

    store: Store
    driver: Driver
    #: By replica, those that are started, now.
    engines: Mapping[str, Engine]
    #: By pool, an engine of each that has had one.
    by_pool: Mapping[str, Engine]
    secrets: Secrets
    #: The policies compare prompts.
    needs_prefixes: bool
    #: By step, when the plan needs its results; it may change.
    needs_s: Mapping[str, float] = field(default_factory=dict)
    #: The accounts of limits; None where nobody has any.
    accounts: SpendingAccounts | None = None
    #: The exchange of results with other processes of the same run; None where there are none.
    exchange: CallExchange | None = None


def dispatcher_of(
    plan: PhysicalPlan, scope: RunScope, operators: Mapping[str, Operator], means: CallMeans, counts: CallCounts
) -> Dispatcher:
    """Return what answers the calls of a plan, by attempts of the driver's where nothing else has the answer."""
    secrets, accounts = means.secrets, means.accounts
    charging = None
    if accounts is not None:
        charging = Charging(scope, accounts, means.driver, tariffs_of(plan), means.engines, means.by_pool)
    return Dispatcher(
        scope,
        ResultPlaces(means.store, means.exchange),
        means.driver,
        Binder(scope, operators, identities(plan), secrets),
        Requests(scope, means.by_pool, means.needs_s, secrets, needs_prefixes=means.needs_prefixes),
        Attempts(scope, means.driver, operators, means.engines, call_limits(plan, operators), secrets),
        counts,
        charging,
    )


def tariffs_of(plan: PhysicalPlan) -> dict[str, Tariff]:
    """Return what tokens cost, by the pool of each engine."""
    return {engine_pool(block.name): Tariff.of(opened(block)[1].price) for block in plan.logical.engines}
