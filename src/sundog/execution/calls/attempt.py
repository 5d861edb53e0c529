"""One attempt of a call, or of gathered ones: the operator runs inside a time limit and a guard.

Owns what an operator may use while it runs, and what a late or doubtful end means. Never decides whether there is
another attempt; the core does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, NoReturn, cast

from sundog.engines.base import Engine, Message, Usage
from sundog.errors import CallError, EngineTimeout
from sundog.execution.calls.call_key import CallIdentity, RunScope
from sundog.execution.calls.envelope import envelope
from sundog.execution.calls.gather import Take
from sundog.execution.calls.guard import CommittedOutcome, fail_call, keep
from sundog.execution.calls.time_limits import TimeLimits
from sundog.host.attempt import Success
from sundog.host.driver import Driver
from sundog.ir.physical import CallExec
from sundog.ir.values.normal_form import NoNormalForm
from sundog.operators.base import BoundCall, GatheringOperator, Operator, Outcome
from sundog.sched.events import Submit
from sundog.secrets import Secrets

GRACE_S = 1.0
"""An operator that keeps the limit itself knows what a late answer means, so this host lets it speak first."""


@dataclass(slots=True)
class _Context:
    """The CallContext of one attempt."""

    secrets: Secrets
    key: bytes
    timeout_s: float
    max_concurrency: int
    request_id: str
    driver: Driver
    replica: Engine | None
    priority: int
    about: Mapping[str, Any]
    needs_first_token: bool
    has_prefilled: bool = False

    @property
    def idempotency_key(self) -> str:
        return self.key.hex()

    @property
    def engine(self) -> Engine:
        assert self.replica is not None, "this call has no engine"
        return self.replica

    def prefill_ended(self) -> None:
        if not self.has_prefilled:
            self.has_prefilled = True
            self.driver.prefill_ended(self.request_id)


class Attempts:
    """This class runs attempts where the core says. `engines` are those that are started, now. `limits`: by pool, how
    many calls a replica takes at once."""

    def __init__(
        self,
        run: RunScope,
        driver: Driver,
        operators: Mapping[str, Operator],
        engines: Mapping[str, Engine],
        limits: Mapping[str, int],
        secrets: Secrets,
    ) -> None:
        self._run = run
        self._driver = driver
        self._operators = operators
        self._engines = engines
        self._secrets = secrets
        self._max_concurrency = limits
        self._limits = TimeLimits()

    async def alone(
        self, node: CallExec, call: BoundCall, key: bytes, identity: CallIdentity, submit: Submit
    ) -> Success[CommittedOutcome]:
        """Run a call; CallError where it fails."""
        begin_s = monotonic()
        try:
            with self._limits.within(node.timeout_s + GRACE_S):
                try:
                    context = self._context(node, key, submit, identity, call.prompt)
                    kept = keep(await self._operators[node.step.operator].run(call, context), self._secrets)
                except BaseException as error:  # fail_call decides what passes
                    # An effect that fails in a way nobody foresaw, or whose result cannot be kept, may have happened.
                    fail_call(error, self._secrets, is_outcome_unknown=node.is_effect)
        except (CallError, TimeoutError) as error:
            _end_in_failure(node, error)
        kept.call_s = monotonic() - begin_s
        return Success(kept, kept.usage, num_result_bytes=len(kept.body))

    async def together(
        self, node: CallExec, take: Take, identity: CallIdentity, submit: Submit
    ) -> Success[Sequence[CommittedOutcome | None]]:
        """Run gathered calls as one request; None for each that gets no certain answer, or one that cannot be kept."""
        calls = take()
        # Its traits named a look-up, or the step would not be gathered.
        operator = cast(GatheringOperator, self._operators[node.step.operator])
        begin_s = monotonic()
        try:
            with self._limits.within(node.timeout_s + GRACE_S):
                try:
                    context = self._context(node, b"", submit, identity, ())
                    outcomes = await operator.run_gathered(node.step.spec, calls, context)
                    assert len(outcomes) == len(calls), "an outcome, or None, for each call"
                    answers = [self._kept_or_none(outcome) for outcome in outcomes]
                except BaseException as error:  # as in alone
                    fail_call(error, self._secrets)
        except (CallError, TimeoutError) as error:
            _end_in_failure(node, error)
        call_s = monotonic() - begin_s
        for answer in answers:
            if answer is not None:
                answer.call_s = call_s
        lengths = [len(answer.body) for answer in answers if answer is not None]
        return Success(answers, _in_all(answers), len(calls), len(lengths), sum(lengths) / max(1, len(lengths)))

    def _kept_or_none(self, outcome: Outcome | None) -> CommittedOutcome | None:
        try:
            return None if outcome is None else keep(outcome, self._secrets)
        except NoNormalForm:
            return None

    def _context(
        self, node: CallExec, key: bytes, submit: Submit, identity: CallIdentity, prompt: tuple[Message, ...]
    ) -> _Context:
        engine = self._engines.get(submit.replica_id)
        reads_about = engine is not None and engine.capabilities().reads_about
        return _Context(
            self._secrets,
            key,
            node.timeout_s,
            self._max_concurrency[node.pool],
            submit.request_id,
            self._driver,
            engine,
            # A server that ranks by priority finishes early rows first, as the core does here.
            identity.position,
            self._about(node, identity, prompt) if reads_about else {},
            submit.needs_first_token,
        )

    def _about(self, node: CallExec, identity: CallIdentity, prompt: tuple[Message, ...]) -> Mapping[str, Any]:
        facts = self._run.facts_of(node.name, identity)
        return envelope(facts, self._run.workflow_id(identity.row), identity.turn, prompt)


def _in_all(answers: Sequence[CommittedOutcome | None]) -> Usage | None:
    """Return the tokens of gathered calls together; None where they have none."""
    told = [answer.usage for answer in answers if answer is not None and answer.usage is not None]
    if not told:
        return None
    num_cached = [usage.num_cached_tokens for usage in told if usage.num_cached_tokens is not None]
    return Usage(
        sum(usage.num_prompt_tokens for usage in told),
        sum(usage.num_output_tokens for usage in told),
        sum(num_cached) if num_cached else None,
        is_estimated=any(usage.is_estimated for usage in told),
    )


def _end_in_failure(node: CallExec, error: CallError | TimeoutError) -> NoReturn:
    if isinstance(error, CallError):
        # Whatever the operator says of retries: what may have happened must not happen twice.
        error.retryable = error.retryable and not (node.is_effect and error.is_outcome_unknown)
        raise error
    raise EngineTimeout(
        f"no answer within {node.timeout_s:g} s",
        hint="raise the step's `timeout` if the call may take longer",
        retryable=not node.is_effect,
        is_outcome_unknown=node.is_effect,
    ) from error
