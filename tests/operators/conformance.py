"""The contract that every operator must keep, whoever wrote it.

A test module gives the suite its operator: a class `Test...(OperatorConformance)` with a fixture `subject`.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from sundog.engines.base import Engine
from sundog.errors import CallError, OperatorError
from sundog.ir.logical import EngineBlock, OperatorSpec
from sundog.ir.physical import Sharing
from sundog.ir.templates.render import Scope, render_json, render_text
from sundog.ir.values.canonical import canonical_json
from sundog.operators.base import BoundCall, Operator, Outcome
from sundog.secrets import Secrets

SECRET = "${env:SUNDOG_TEST_SECRET}"
SECRET_VALUE = "s3cr3t/value+of%the&test"
WAIT_S = 5.0


@dataclass(slots=True)
class Context:
    """A CallContext of the tests; `num_prefills` counts what the call reported."""

    secrets: Secrets = field(default_factory=lambda: Secrets({"SUNDOG_TEST_SECRET": SECRET_VALUE}))
    llm: Engine | None = None
    request_id: str = "request-1"
    idempotency_key: str = "key-1"
    timeout_s: float = 30.0
    max_concurrency: int = 8
    priority: int = 0
    about: Mapping[str, Any] = field(default_factory=dict)
    needs_first_token: bool = False
    num_prefills: int = 0

    @property
    def engine(self) -> Engine:
        assert self.llm is not None
        return self.llm

    def prefill_ended(self) -> None:
        self.num_prefills += 1


@dataclass(frozen=True, slots=True)
class Case:
    """A spec and the scope it is bound in."""

    spec: OperatorSpec
    scope: Scope = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """An operator and the calls that show what it keeps.

    `good`: runs and gives a value. `other`: a call that is not the same as `good`. `unbound`: fail to bind on their
    row. `faulty`: bind, and fail when they run. `endless`: runs until it is cancelled, while `num_running` counts it
    as the other side sees it. `secret`: names SECRET where the operator allows it. `effects`: change something.
    """

    operator: Operator
    good: Case
    other: Case
    unbound: tuple[Case, ...]
    faulty: tuple[Case, ...]
    endless: Case
    num_running: Callable[[], int]
    secret: Case | None = None
    effects: tuple[Case, ...] = ()
    engines: Mapping[str, EngineBlock] = field(default_factory=dict)
    identities: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    engine: Engine | None = None

    @property
    def cases(self) -> tuple[Case, ...]:
        secret = () if self.secret is None else (self.secret,)
        return (self.good, self.other, *self.faulty, self.endless, *secret, *self.effects)

    def bind(self, case: Case) -> BoundCall:
        return self.operator.bind(case.spec, case.scope, self.identities)

    def context(self) -> Context:
        return Context(llm=self.engine)

    async def run(self, case: Case) -> Outcome:
        return await self.operator.run(self.bind(case), self.context())


async def until(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds; an AssertionError after WAIT_S."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110  # the other side is another thread or process
            await asyncio.sleep(0.005)


class OperatorConformance:
    @pytest.fixture
    def subject(self) -> Subject:
        raise NotImplementedError("each operator's test class gives its own")

    def test_its_calls_pass_their_own_check(self, subject: Subject) -> None:
        for case in subject.cases:
            subject.operator.check(case.spec, subject.engines)

    def test_equal_inputs_give_equal_payloads(self, subject: Subject) -> None:
        for case in subject.cases:
            twin = Case(copy.deepcopy(case.spec), copy.deepcopy(dict(case.scope)))
            assert canonical_json(subject.bind(twin).payload) == canonical_json(subject.bind(case).payload)

    def test_different_calls_give_different_payloads(self, subject: Subject) -> None:
        assert subject.bind(subject.good).payload != subject.bind(subject.other).payload

    def test_bind_leaves_the_row_as_it_was(self, subject: Subject) -> None:
        for case in subject.cases:
            before = copy.deepcopy(dict(case.scope))
            subject.bind(case)
            assert case.scope == before

    def test_payloads_are_json(self, subject: Subject) -> None:
        for case in subject.cases:
            payload = subject.bind(case).payload
            assert json.loads(canonical_json(payload)) == payload

    def test_a_bad_row_fails_to_bind(self, subject: Subject) -> None:
        for case in subject.unbound:
            with pytest.raises(OperatorError) as caught:
                subject.bind(case)
            assert caught.value.what

    def test_payloads_hold_what_the_traits_say_of_them(self, subject: Subject) -> None:
        for case in subject.cases:
            form = subject.operator.traits(case.spec).payload
            for held in () if form is None else form.held:
                found = subject.bind(case).payload
                for key in held.place:
                    found = found[key]
                render = render_text if held.is_text and isinstance(found, str) else render_json
                assert found == render(held.template, case.scope)

    def test_traits_agree_with_each_other(self, subject: Subject) -> None:
        for case in subject.cases:
            traits = subject.operator.traits(case.spec)
            assert traits == subject.operator.traits(case.spec)
            assert traits.pool
            assert traits.max_concurrency >= 1
            assert traits.timeout_s > 0
            assert traits.retries >= 0
            assert traits.writes <= traits.is_effect
            assert not traits.writes or traits.resource is not None
            if traits.is_effect:
                assert traits.sharing is Sharing.NEVER

    def test_effects_are_known_as_such(self, subject: Subject) -> None:
        assert all(subject.operator.traits(case.spec).is_effect for case in subject.effects)
        assert not subject.operator.traits(subject.good.spec).is_effect

    def test_plans_hold_no_secret(self, subject: Subject) -> None:
        if subject.secret is None:
            pytest.skip("the operator allows no secret")

        async def run() -> None:
            case = subject.secret
            assert case is not None
            context = subject.context()
            call = subject.bind(case)
            outcome = await subject.operator.run(call, context)
            # The call revealed it: else this test would hold for an operator that never uses it.
            assert context.secrets.redact(SECRET_VALUE) == SECRET
            for text in (call.payload, outcome.value):
                assert SECRET_VALUE not in json.dumps(text, ensure_ascii=False)
            assert SECRET in json.dumps(call.payload)
            assert SECRET_VALUE not in str(subject.operator.traits(case.spec))
            await subject.operator.close()

        asyncio.run(run())

    def test_values_are_json(self, subject: Subject) -> None:
        async def run() -> None:
            value = (await subject.run(subject.good)).value
            assert json.loads(canonical_json(value)) == value
            await subject.operator.close()

        asyncio.run(run())

    def test_calls_at_once_do_not_mix(self, subject: Subject) -> None:
        async def run() -> None:
            alone = [(await subject.run(case)).value for case in (subject.good, subject.other)]
            assert alone[0] != alone[1]
            together = await asyncio.gather(*(subject.run(case) for case in (subject.good, subject.other) * 10))
            assert [outcome.value for outcome in together] == alone * 10
            await subject.operator.close()

        asyncio.run(run())

    def test_faults_are_call_errors(self, subject: Subject) -> None:
        async def run() -> None:
            for case in subject.faulty:
                with pytest.raises(CallError) as caught:
                    await subject.run(case)
                assert caught.value.what
                assert not (caught.value.retryable and caught.value.is_outcome_unknown)
                assert SECRET_VALUE not in str(caught.value)
            await subject.operator.close()

        asyncio.run(run())

    def test_cancellation_leaves_nothing_running(self, subject: Subject) -> None:
        async def run() -> None:
            call = asyncio.create_task(subject.run(subject.endless))
            await until(lambda: subject.num_running() == 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: subject.num_running() == 0)
            await subject.operator.close()

        asyncio.run(run())

    def test_close_may_come_twice_and_before_any_call(self, subject: Subject) -> None:
        async def run() -> None:
            await subject.operator.close()
            await subject.operator.close()

        asyncio.run(run())
