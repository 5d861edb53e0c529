"""One call's way: render, look up, join or claim, run, commit.

Owns sharing in flight and the commit point (docs/design.md). Never decides when or where a call runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from sundog.engines.base import Engine, Message, Usage
from sundog.errors import CallError, EngineTimeout, RunStopped
from sundog.host.arrival import prompt_tokens, shared_prefix
from sundog.host.driver import Driver, GivenUp
from sundog.ir.physical import CallExec, Sharing
from sundog.ir.templates.render import Scope
from sundog.ir.values.normal_form import NoNormalForm
from sundog.measured.node_history import Observations
from sundog.operators.base import BoundCall, GatheringOperator, Operator, Outcome
from sundog.runtime.calls.call_key import CallIdentity, RunScope, call_key
from sundog.runtime.calls.claims import Claim
from sundog.runtime.calls.envelope import envelope
from sundog.runtime.calls.gather import Gatherer, Take
from sundog.runtime.calls.guard import CommittedOutcome, fail_call, keep
from sundog.runtime.calls.in_flight import Shared
from sundog.runtime.calls.refusals import refusal
from sundog.runtime.calls.time_limits import TimeLimits
from sundog.runtime.figures.pool_work import RunWork
from sundog.runtime.figures.progress import Progress
from sundog.sched.events import RequestArrived, RequestFinished, Submit
from sundog.sched.facts import NO_FACTS
from sundog.secrets import Secrets
from sundog.store.store import NO_USAGE, Store

T = TypeVar("T")
DEFAULT_OUTPUT_TOKENS = 256
GATHERED = " gathered"
"""Ends the id of a request that answers several calls: its first call may have a request of its own afterwards."""
GRACE_S = 1.0
"""An operator that keeps the limit itself knows what a late answer means, so this host lets it speak first."""


@dataclass(slots=True)
class CallAnswer:
    """A call's value and what computing it took, now or when it was first computed."""

    value: Any
    usage: Usage


@dataclass(slots=True)
class _Context:
    secrets: Secrets
    idempotency_key: str
    timeout_s: float
    request_id: str
    driver: Driver
    replica: Engine | None
    priority: int
    about: Mapping[str, Any]
    needs_first_token: bool
    has_prefilled: bool = False

    @property
    def engine(self) -> Engine:
        assert self.replica is not None, "this call has no engine"
        return self.replica

    def prefill_ended(self) -> None:
        if not self.has_prefilled:
            self.has_prefilled = True
            self.driver.prefill_ended(self.request_id)


class Dispatcher:
    """Answers calls: from the store, from an equal call in flight, or by running them."""

    def __init__(
        self,
        run: RunScope,
        store: Store,
        driver: Driver,
        operators: Mapping[str, Operator],
        engines: Mapping[str, Engine],
        by_pool: Mapping[str, Engine],
        identities: Mapping[str, Mapping[str, Any]],
        secrets: Secrets,
        progress: Progress,
        *,
        needs_prefixes: bool,
        models: Mapping[str, str] | None = None,
        observations: Observations | None = None,
        needs_s: Mapping[str, float] | None = None,
        work: RunWork | None = None,
    ) -> None:
        """`engines`: those that are started, now; `by_pool`: one of each pool that has had one.
        `models`: of each engine pool, under which `observations` keeps what its calls show; `work`: what they were for
        each pool. `needs_s`: of each step, when the plan needs its results; may change."""
        self._run = run
        self._store = store
        self._driver = driver
        self._operators = operators
        self._engines = engines
        self._identities = identities
        self._secrets = secrets
        self._progress = progress
        self._by_pool = by_pool
        self._needs_prefixes = needs_prefixes
        self._models = models or {}
        self._observations = observations or Observations()
        self._needs_s = {} if needs_s is None else needs_s
        self._work = work or RunWork()
        self._limits = TimeLimits()
        self._in_flight: dict[bytes, Shared[CallAnswer]] = {}
        self._gatherer = Gatherer(self._send_gathered)
        self._is_stopping = False

    def stop(self) -> None:
        """Start no further attempt, load no further engine; what runs goes on to its commit."""
        self._is_stopping = True
        self._driver.stop()

    async def call(self, node: CallExec, scope: Scope, identity: CallIdentity) -> CallAnswer:
        """The call's answer, committed; CallError when it failed, RunStopped when the run drains."""
        self._progress.num_asked += 1
        try:
            call = self._operators[node.step.operator].bind(node.step.spec, scope, self._identities)
            key = call_key(self._run, node, call, identity)
        except BaseException as error:  # fail_call decides what passes
            fail_call(error, self._secrets)
        # Awaited as it is: with one more turn of the loop between the look-up and the check for equal calls in flight,
        # such a call could commit and leave unseen.
        stored = await self._store.get(key)
        if stored is not None:
            self._driver.workflow_left(self._run.workflow_id(identity.row_index))
            if stored.run_id != self._run.run_id:
                self._work.reused(node.name)
            self._progress.num_reused += 1
            return CallAnswer(stored.value, stored.usage)
        shared = self._in_flight.get(key)
        if shared is not None:
            self._driver.workflow_left(self._run.workflow_id(identity.row_index))
            answer = await asyncio.shield(shared.future())
            self._progress.num_reused += 1
            return answer
        if node.sharing is Sharing.NEVER:
            return await self._execute(node, call, key, identity)
        return await self._lead(node, call, key, identity)

    async def _lead(self, node: CallExec, call: BoundCall, key: bytes, identity: CallIdentity) -> CallAnswer:
        """Run a call whose equals may join while it is in flight; they get its failure too."""
        shared: Shared[CallAnswer] = Shared()
        self._in_flight[key] = shared
        try:
            answer = await self._execute(node, call, key, identity)
        except BaseException as error:
            # A cancelled leader means that the process is going down: those who joined must not wait for ever.
            is_cancelled = isinstance(error, asyncio.CancelledError)
            shared.fail(RunStopped("the run was stopped") if is_cancelled else error)
            raise
        else:
            shared.succeed(answer)
            return answer
        finally:
            del self._in_flight[key]

    async def _execute(self, node: CallExec, call: BoundCall, key: bytes, identity: CallIdentity) -> CallAnswer:
        kept = await self._gathered(node, call, identity)
        if kept is None:
            kept = await self._alone(node, call, key, identity)
        usage = kept.usage or NO_USAGE
        run_id = self._run.run_id
        first = await self._store.put(key, run_id, node.step.name, kept.body, usage, settles_claim=node.is_effect)
        self._progress.num_executed += 1
        self._progress.num_prompt_tokens += usage.num_prompt_tokens
        self._progress.num_output_tokens += usage.num_output_tokens
        # Another process may have answered an equal call meanwhile: the first result is the result.
        return CallAnswer(kept.value, usage) if first is None else CallAnswer(first.value, first.usage)

    async def _alone(self, node: CallExec, call: BoundCall, key: bytes, identity: CallIdentity) -> CommittedOutcome:
        request_id = f"{identity.row_index}/{identity.path}"
        claim = Claim(self._store, self._run, key, request_id) if node.is_effect else None

        async def attempt(submit: Submit) -> tuple[CommittedOutcome, RequestFinished]:
            if self._is_stopping:
                raise RunStopped("the run is stopping")
            if claim is not None:
                await claim.take()
            try:
                with self._work.attempt(node.pool, node.name, self._driver.now_s) as span:
                    kept = await self._within_limit(node, self._run_guarded(node, call, key, submit, identity))
            except CallError as error:
                if claim is not None:
                    await claim.failed(error)
                raise
            self._record(node, kept.usage, span.end_s, span.seconds)
            used = kept.usage or NO_USAGE
            tokens = (used.num_prompt_tokens, used.num_cached_tokens or 0, used.num_output_tokens)
            return kept, RequestFinished(span.end_s, request_id, *tokens)

        try:
            try:
                return await self._driver.run(self._arrived(node, call, request_id, identity), attempt)
            except GivenUp as given_up:
                raise refusal(given_up, node.pool, node.max_retry_wait_s) from given_up.cause
        except (CallError, RunStopped) as error:
            if claim is not None:
                await claim.failed(error)
            raise

    async def _gathered(self, node: CallExec, call: BoundCall, identity: CallIdentity) -> CommittedOutcome | None:
        """The outcome from a request that answered other calls too; None where the call must run alone."""
        if not node.step.is_gathered:
            return None
        try:
            group = self._gathering(node).group_of(node.step.spec, call)
        except BaseException as error:  # as in call
            fail_call(error, self._secrets)
        return None if group is None else await self._gatherer.ask(node, group, call, identity)

    async def _send_gathered(
        self, node: CallExec, identity: CallIdentity, take: Take
    ) -> Sequence[CommittedOutcome | None]:
        request_id = f"{identity.row_index}/{identity.path}{GATHERED}"

        async def attempt(submit: Submit) -> tuple[Sequence[CommittedOutcome | None], RequestFinished]:
            if self._is_stopping:
                raise RunStopped("the run is stopping")
            calls = take()
            with self._work.attempt(node.pool, node.name, self._driver.now_s) as span:
                answers = await self._within_limit(node, self._attempt_gathered(node, calls, submit, identity))
            for kept in answers:
                if kept is not None:
                    self._record(node, None, span.end_s, span.seconds / len(calls))
            return answers, RequestFinished(span.end_s, request_id, num_calls=len(calls))

        arrived = RequestArrived(
            self._driver.now_s(),
            request_id,
            node.pool,
            identity.row_index,
            identity.depth,
            need_s=self._needs_s.get(node.name, 0.0),
            workflow_id=self._run.workflow_id(identity.row_index),
            facts=self._run.facts.get(node.name, NO_FACTS),
        )
        try:
            return await self._driver.run(arrived, attempt)
        except GivenUp as given_up:
            raise refusal(given_up, node.pool, arrived.max_retry_wait_s) from given_up.cause

    def _record(self, node: CallExec, usage: Usage | None, end_s: float, seconds: float) -> None:
        """Keep what a call took that succeeded, for the report and for the estimates of later runs."""
        self._observations.executed(node.name, self._models.get(node.pool, ""), usage, seconds)
        self._work.executed(node.pool, usage, end_s)

    def _gathering(self, node: CallExec) -> GatheringOperator:
        # Its traits named a look-up, or the step would not be gathered.
        return cast(GatheringOperator, self._operators[node.step.operator])

    async def _attempt_gathered(
        self, node: CallExec, calls: Sequence[BoundCall], submit: Submit, identity: CallIdentity
    ) -> Sequence[CommittedOutcome | None]:
        """Return the outcomes of `run_gathered`, guarded; None also for one that cannot be kept."""
        try:
            context = self._context(node, b"", submit, identity, ())
            outcomes = await self._gathering(node).run_gathered(node.step.spec, calls, context)
            assert len(outcomes) == len(calls), "an outcome, or None, for each call"
            return [self._kept_or_none(outcome) for outcome in outcomes]
        except BaseException as error:  # as in call
            fail_call(error, self._secrets)

    def _kept_or_none(self, outcome: Outcome | None) -> CommittedOutcome | None:
        try:
            return None if outcome is None else keep(outcome, self._secrets)
        except NoNormalForm:
            return None

    async def _run_guarded(
        self, node: CallExec, call: BoundCall, key: bytes, submit: Submit, identity: CallIdentity
    ) -> CommittedOutcome:
        try:
            context = self._context(node, key, submit, identity, call.prompt)
            return keep(await self._operators[node.step.operator].run(call, context), self._secrets)
        except BaseException as error:  # as in call
            # An effect that fails in a way nobody foresaw, or whose result cannot be kept, may have happened.
            fail_call(error, self._secrets, is_outcome_unknown=node.is_effect)

    def _context(
        self, node: CallExec, key: bytes, submit: Submit, identity: CallIdentity, prompt: tuple[Message, ...]
    ) -> _Context:
        engine = self._engines.get(submit.replica_id)
        reads_about = engine is not None and engine.capabilities().reads_about
        return _Context(
            self._secrets,
            key.hex(),
            node.timeout_s,
            submit.request_id,
            self._driver,
            engine,
            # A server that ranks by priority finishes early rows first, as the core does here.
            identity.position,
            self._about(node, identity, prompt) if reads_about else {},
            submit.needs_first_token,
        )

    def _about(self, node: CallExec, identity: CallIdentity, prompt: tuple[Message, ...]) -> Mapping[str, Any]:
        facts = self._run.facts.get(node.name, NO_FACTS)
        return envelope(facts, self._run.workflow_id(identity.row_index), identity.depth, prompt)

    async def _within_limit(self, node: CallExec, attempt: Awaitable[T]) -> T:
        try:
            with self._limits.within(node.timeout_s + GRACE_S):
                return await attempt
        except CallError as error:
            # Whatever the operator says of retries: what may have happened must not happen twice.
            error.retryable = error.retryable and not (node.is_effect and error.is_outcome_unknown)
            raise
        except TimeoutError as error:
            raise EngineTimeout(
                f"no answer within {node.timeout_s:g} s",
                hint="raise the step's `timeout` if the call may take longer",
                retryable=not node.is_effect,
                is_outcome_unknown=node.is_effect,
            ) from error

    def _arrived(self, node: CallExec, call: BoundCall, request_id: str, identity: CallIdentity) -> RequestArrived:
        num_prompt_tokens, key = self._prompt_of(node, call, request_id)
        return RequestArrived(
            self._driver.now_s(),
            request_id,
            node.pool,
            identity.row_index,
            identity.depth,
            num_prompt_tokens,
            (call.max_tokens or DEFAULT_OUTPUT_TOKENS) if call.prompt else 0,
            key,
            max_attempts=node.max_attempts,
            need_s=self._needs_s.get(node.name, 0.0),
            has_successor=node.has_successor and bool(key),
            max_retry_wait_s=node.max_retry_wait_s,
            workflow_id=self._run.workflow_id(identity.row_index),
            facts=self._run.facts.get(node.name, NO_FACTS),
        )

    def _prompt_of(self, node: CallExec, call: BoundCall, request_id: str) -> tuple[int, tuple[int, ...]]:
        """Its tokens and its prefix key; none for a call without a prompt."""
        if not call.prompt:
            return 0, ()
        try:
            engine = self._by_pool.get(node.pool)
            key = shared_prefix(engine, call.prompt) if self._needs_prefixes else ()
            return prompt_tokens(engine, request_id, call.prompt), key
        except BaseException as error:  # as in call
            fail_call(error, self._secrets)
