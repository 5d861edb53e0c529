"""An exception of an operator becomes a value of its row, and a result is kept only where it can be read back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sundog.engines.base import Usage
from sundog.errors import BadResponse, CallError, ConfigError, RunStopped, StoreError
from sundog.execution.calls.guard import fail_call, keep
from sundog.ir.physical import Sharing
from sundog.operators.base import BoundCall, Outcome
from sundog.secrets import Secrets
from tests.execution.fakes import FakeOperator, World, plan_of, step

SECRETS = Secrets({"KEY": "open sesame"})


def raising(error: BaseException) -> Any:
    def behave(payload: Any) -> Any:
        raise error

    return behave


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RecursionError("too deep"), "OperatorError: RecursionError: too deep"),
        (SystemExit(0), "OperatorError: SystemExit: 0"),
        (GeneratorExit(), "OperatorError: GeneratorExit"),
        (MemoryError(), "OperatorError: MemoryError"),
        (asyncio.CancelledError(), "OperatorError: CancelledError"),
        (UnicodeError("\ud800"), "OperatorError: UnicodeError: \ufffd"),
        (ConfigError("no key", hint="set it"), "OperatorError: no key"),
        (BadResponse("nonsense"), "BadResponse: nonsense"),
    ],
)
def test_what_is_raised_is_told_of_its_row(tmp_path: Path, error: BaseException, cause: str) -> None:
    world = World(tmp_path, FakeOperator(behaviours={"b": raising(error)}))
    ends = world.run(plan_of(step("a", "{{ row.x }}"), step("b", "{{ a }}!", when="{{ row.x == 1 }}")), *rows(3))
    assert [end.state for end in ends] == ["done", "failed", "done"]
    assert json.loads(ends[1].body)["cause"] == cause


@pytest.mark.parametrize("error", [StoreError("full"), RunStopped("stop"), KeyboardInterrupt()])
def test_what_is_no_failure_of_a_row_passes(error: BaseException) -> None:
    with pytest.raises(type(error)):
        fail_call(error, SECRETS)


def test_a_failure_of_a_call_shows_no_secret() -> None:
    secrets = Secrets({"KEY": "open sesame"})
    secrets.reveal("${env:KEY}")
    with pytest.raises(BadResponse) as caught:
        fail_call(BadResponse("not open sesame", hint="it says: open%20sesame"), secrets)
    assert "sesame" not in f"{caught.value} {caught.value.args}"


def test_binding_is_guarded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(self: FakeOperator, spec: Any, scope: Any, engines: Any) -> BoundCall:
        return BoundCall({"a": [10**5000]})

    monkeypatch.setattr(FakeOperator, "bind", bind)
    (end,) = World(tmp_path).run(plan_of(step("a", "x")), {})
    assert "ValueError: Exceeds the limit" in json.loads(end.body)["cause"]


def test_a_result_that_cannot_be_kept_is_an_error_of_its_row(tmp_path: Path) -> None:
    world = World(tmp_path, FakeOperator(behaviours={"a": lambda payload: {"a": [float("nan")]}}))
    (end,) = world.run(plan_of(step("a", "x")), {})
    what = "the result cannot be kept: the value['a'][0] is NaN, which is no JSON number"
    assert json.loads(end.body)["cause"] == f"OperatorError: {what}"


@pytest.mark.parametrize("behaviour", [raising(ValueError("odd")), lambda payload: float("inf")])
def test_an_effect_that_fails_as_nobody_foresaw_may_have_happened(tmp_path: Path, behaviour: Any) -> None:
    world = World(tmp_path, FakeOperator(behaviours={"send": behaviour}))
    plan = plan_of(step("send", "mail", sharing=Sharing.NEVER, effect=True))
    world.run(plan, {})
    (end,) = world.run(plan, {})
    assert world.operator.runs["mail"] == 1
    assert "outcome is unknown" in json.loads(end.body)["cause"]


def test_secrets_are_taken_out_of_values_and_of_unforeseen_errors() -> None:
    SECRETS.reveal("${env:KEY}")
    kept = keep(Outcome({"text": "say open sesame"}), SECRETS)
    assert kept.value == {"text": "say ${env:KEY}"} == json.loads(kept.body)
    with pytest.raises(CallError, match=r"ValueError: \$\{env:KEY\}"):
        fail_call(ValueError("open sesame"), SECRETS)
    with pytest.raises(CallError) as caught:
        fail_call(ConfigError("it is shut", hint="say open sesame"), SECRETS)
    assert caught.value.hint == "say ${env:KEY}"


@pytest.mark.parametrize("count", [10**30, 2**53 + 1, -1, 1.5, float("inf"), "7", None, True])
def test_a_count_that_is_none_was_not_told(count: Any) -> None:
    usage = keep(Outcome("x", Usage(count, count, count, count)), SECRETS).usage
    assert usage == Usage(0, 0, None, None)
    assert keep(Outcome("x", Usage(2**53, 1, 0, None)), SECRETS).usage == Usage(2**53, 1, 0, None)


def rows(number: int) -> list[dict[str, int]]:
    return [{"x": index} for index in range(number)]
