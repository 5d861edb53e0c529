"""Calls of models that come one by one: each is a request of the core, beside those of flows.

Owns which engine a model's name means, and how many calls wait at most. Never reads a body; serve does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from sundog.engines.base import Engine
from sundog.errors import CallError, EngineUnavailable, SundogError, suggest
from sundog.execution.calls.payment import Payment
from sundog.host.attempt import Success
from sundog.host.driver import Driver, GivenUp
from sundog.ir.pool_names import engine_of, engine_pool
from sundog.live.engines import LiveEngines
from sundog.live.refusals import Overloaded
from sundog.sched.events import RequestArrived, Submit
from sundog.sched.facts import NO_FACTS, CallFacts

T = TypeVar("T")
MAX_ATTEMPTS = 3
MAX_WAITING = 4_096
"""Calls of models that are in flight or wait; what comes beyond is refused."""
RETRY_AFTER_S = 1.0
MAX_RETRY_WAIT_S = 20.0
"""A server that asks for a longer wait is told to the client, who can decide better."""


class UnknownModel(SundogError):
    """Raised for a model that no engine serves; caught by the doors."""


@dataclass(slots=True)
class ModelCall:
    """One call of a model, as the core hears of it."""

    request_id: str
    pool: str
    num_prompt_tokens: int
    num_output_tokens: int
    #: One cumulative hash for each full block of its prompt, outermost first.
    prefix_key: tuple[int, ...] = ()
    #: The program that it belongs to, "" for a call on its own.
    workflow_id: str = ""
    #: The place of that program among all, and the number of its calls that have ended.
    workflow_order: int = 0
    num_turns: int = 0
    facts: CallFacts = NO_FACTS


ModelAttempt = Callable[[Engine, Submit], Awaitable[Success[T]]]
"""Runs one attempt at the engine that was chosen; CallError where it failed."""


class ModelCalls:
    """This class runs the calls of models of one host."""

    def __init__(self, engines: LiveEngines, driver: Driver) -> None:
        self._engines = engines
        self._driver = driver
        self.num_in_flight = 0
        self._is_stopping = False
        #: Set while nothing is in flight.
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def drain(self, within_s: float) -> None:
        """Take nothing more, and return when no call is in flight, or after `within_s`."""
        self._is_stopping = True
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._is_idle.wait()

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield each name that a client may use for a model, and the engine's pool: the names of the blocks first."""
        for pool in self._engines.options:
            yield engine_of(pool) or pool, pool
        for pool, options in self._engines.options.items():
            yield options.model, pool

    def pool_of(self, model: str) -> str:
        """Return the pool of the engine that a client means; UnknownModel where there is none."""
        pool = engine_pool(model)
        if pool in self._engines.options:
            return pool
        known = self._by_model()
        if model not in known:
            names = dict(self.names())
            raise UnknownModel(f"there is no model '{model}'", hint=suggest(model, names))
        return known[model]

    def engine(self, pool: str) -> Engine:
        """Return an engine of a pool: what it can is what all of them can."""
        return self._engines.by_pool[pool]

    async def run(self, call: ModelCall, attempt: ModelAttempt[T], payment: Payment | None = None) -> T:
        """Return what `attempt` gives, run where and when the core says, and again where it says so. `payment`: None
        where nobody has limits. Overloaded where too many calls wait; EngineError where it failed; LimitReached where
        it cannot be paid."""
        arrived = RequestArrived(
            0.0,
            call.request_id,
            call.pool,
            call.workflow_order,
            call.num_turns,
            call.num_prompt_tokens,
            call.num_output_tokens,
            call.prefix_key,
            max_attempts=MAX_ATTEMPTS,
            max_retry_wait_s=MAX_RETRY_WAIT_S,
            workflow_id=call.workflow_id,
            facts=call.facts,
        )

        def run(submit: Submit) -> Awaitable[Success[T]]:
            return attempt(self._engines.engines[submit.replica_id], submit)

        with self.waiting():
            try:
                return (
                    await self._driver.run(arrived, run)
                    if payment is None
                    else await payment.run(self._driver, arrived, run)
                )
            except GivenUp as given_up:
                raise _failure(given_up, call.pool) from given_up.cause

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count a call that runs, or waits, while the context lasts. Overloaded where there are too many;
        EngineUnavailable where the server is stopping."""
        if self._is_stopping:
            raise EngineUnavailable("the server is stopping", retryable=True)
        if self.num_in_flight >= MAX_WAITING:
            raise Overloaded(f"{self.num_in_flight:,} calls of models are in flight", retry_after_s=RETRY_AFTER_S)
        self.num_in_flight += 1
        self._is_idle.clear()
        try:
            yield
        finally:
            self.num_in_flight -= 1
            if not self.num_in_flight:
                self._is_idle.set()

    def first_token(self, request_id: str) -> None:
        """The first piece of an answer is there, where the core wanted to hear of it."""
        self._driver.prefill_ended(request_id)

    def _by_model(self) -> Mapping[str, str]:
        """Return the pools by the models of their engines; of several the first one that was opened."""
        found: dict[str, str] = {}
        for pool, options in self._engines.options.items():
            found.setdefault(options.model, pool)
        return found


def _failure(given_up: GivenUp, pool: str) -> CallError:
    if given_up.failure is not None:
        return given_up.failure
    what = f"no replica of the engine '{engine_of(pool)}' is there"
    if given_up.why == "draining":
        what = "the server is stopping"
    return EngineUnavailable(what, retryable=True)
