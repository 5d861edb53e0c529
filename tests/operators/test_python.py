"""Python steps: functions of a module in the flow's folder."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sundog.errors import FlowError, OperatorError
from sundog.ir.physical import Sharing
from sundog.ir.schemas.shape import ListOf, Record, Scalar
from sundog.ir.templates.render import Scope
from sundog.operators.python import PythonOperator, PythonSpec
from tests.operators.calls import fault_of_step, run_step
from tests.operators.conformance import SECRET, SECRET_VALUE, Case, Context, OperatorConformance, Subject, until

MODULE = "sundog_test_functions"
SOURCE = """
import asyncio, datetime, decimal, threading

received = []
running = []
go_on = threading.Event()

def echo(**args):
    received.append(args)
    return args

def add(a, b=1):
    return a + b

async def add_later(a, b):
    await asyncio.sleep(0)
    return a + b

async def forever():
    running.append(1)
    try:
        await asyncio.Event().wait()
    finally:
        running.pop()

def block():
    running.append(1)
    go_on.wait(10)
    return "done"

def fail(message):
    raise KeyError(message)

async def fail_later(message):
    raise TimeoutError(message)

async def cancel_itself():
    raise asyncio.CancelledError

def leave():
    raise SystemExit(3)

async def leave_later():
    raise SystemExit(0)

def close_itself():
    raise GeneratorExit

def interrupt_itself():
    raise KeyboardInterrupt

class Stop(BaseException):
    pass

def stop():
    raise Stop

async def raise_later(error):
    raise error

async def gather_faults():
    async with asyncio.TaskGroup() as group:
        group.create_task(raise_later(ValueError("no 1")))
        group.create_task(raise_later(KeyError(2)))

class Shy(Exception):
    def __str__(self):
        raise RuntimeError("no words")

def be_shy():
    raise Shy

def ring():
    value = [1]
    value.append(value)
    return {"a": value}

def not_a_number():
    return {"ratio": float("nan")}

def unbounded():
    return (-float("inf"),)

def numbered():
    return {1: 2}

def deep():
    value = 1
    for _ in range(101):
        value = [value]
    return value

def rich():
    return {"day": datetime.date(2020, 1, 31), "price": decimal.Decimal("2.50"), "set": {1}, "pair": (1, 2)}

def odd():
    return {"a": [1, object()]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop(MODULE, None)


def module() -> Any:
    return sys.modules[MODULE]


def spec(function: str, effect: bool = False, **args: Any) -> PythonSpec:
    return PythonSpec.model_validate({"call": f"{MODULE}:{function}", "args": args, "effect": effect})


def run(folder: Path, step: PythonSpec, scope: Scope | None = None, context: Context | None = None) -> Any:
    return run_step(PythonOperator(folder), step, scope, context)


def fault(folder: Path, step: PythonSpec, context: Context | None = None) -> OperatorError:
    return fault_of_step(PythonOperator(folder), step, context)


class TestConformance(OperatorConformance):
    @pytest.fixture
    def subject(self, folder: Path) -> Subject:
        row = {"row": {"n": 2, "list": [1]}}
        return Subject(
            operator=PythonOperator(folder),
            good=Case(spec("add", a="{{ row.n }}", b=3), row),
            other=Case(spec("add", a=5)),
            unbound=(Case(spec("echo", a="{{ row.nix }}"), row), Case(spec("echo", a=["{{ 1 / 0 }}"]), row)),
            faulty=(
                Case(spec("fail", message=f"with {SECRET}")),
                Case(spec("fail_later", message="x")),
                Case(spec("cancel_itself")),
                Case(spec("odd")),
                Case(spec("add", a="{{ row.list }}"), row),
                Case(spec("echo", a="${env:SUNDOG_UNSET}")),
            ),
            endless=Case(spec("forever")),
            num_running=lambda: len(module().running) if MODULE in sys.modules else 0,
            secret=Case(spec("echo", a=[f"key {SECRET}"])),
            effects=(Case(spec("add", effect=True, a=1)),),
        )


def test_arguments_keep_their_types(folder: Path) -> None:
    row = {"row": {"n": 1, "f": 0.5, "list": [1, {"a": None}]}}
    value = run(folder, spec("echo", n="{{ row.n }}", tree={"f": ["{{ row.f }}", "{{ row.list }}"]}, c=True), row)
    assert value == {"n": 1, "tree": {"f": [0.5, [1, {"a": None}]]}, "c": True}


@pytest.mark.parametrize("function", ["echo", "add_later"])
def test_what_is_returned_must_have_the_form_that_the_step_says(folder: Path, function: str) -> None:
    args = {"a": 1, "b": 2} if function == "add_later" else {"n": 1, "text": "x", "usage": ["a"]}
    output = {"n": "int", "text": "str", "usage": "list[str]"}
    written = PythonSpec(call=f"{MODULE}:{function}", args=args, output=output)  # type: ignore[arg-type]  # as written
    if function == "echo":
        assert run(folder, written) == args
        assert PythonOperator(folder).shape(written) == Record.of(
            n=Scalar("int"), text=Scalar("str"), usage=ListOf(Scalar("str"))
        )
        written = written.model_copy(update={"args": {**args, "n": 1.5, "text": "x" * 10_000}})
    fault = fault_of_step(PythonOperator(folder), written, None)
    assert f"what '{MODULE}:{function}' returned does not fit the output schema: $" in fault.what
    assert len(fault.what) < 500
    assert not fault.is_outcome_unknown


def test_an_async_function_is_awaited(folder: Path) -> None:
    assert run(folder, spec("add_later", a=1, b=2)) == 3


def test_results_become_json(folder: Path) -> None:
    assert run(folder, spec("rich")) == {"day": "2020-01-31", "price": "2.50", "set": [1], "pair": [1, 2]}


def test_a_result_without_json_form_is_told_by_place_and_type(folder: Path) -> None:
    assert fault(folder, spec("odd")).what == f"'{MODULE}:odd' returned no JSON: the value['a'][1] is of type object"


@pytest.mark.parametrize(
    ("function", "args", "message", "hint"),
    [
        ("add", {"a": 1, "bb": 2}, "unexpected keyword argument 'bb'", "did you mean 'b'?"),
        ("add", {"b": 2}, "missing a required argument: 'a'", "add(a, b=1)"),
        ("nix", {}, "is not there", "known here"),
        ("echo", {"a": "{{ '${env:NAME}' }}"}, "inside an expression", "outside"),
    ],
)
def test_mistakes_found_before_the_run(
    folder: Path, function: str, args: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(FlowError) as caught:
        PythonOperator(folder).check(spec(function, **args), {})
    assert message in caught.value.what
    assert hint in (caught.value.hint or "")


def test_an_exception_names_the_line_in_the_users_file(folder: Path) -> None:
    error = fault(folder, spec("fail", message="no"))
    line = SOURCE.splitlines().index("    raise KeyError(message)") + 1
    assert error.what == "KeyError: 'no'"
    assert error.where == f"{MODULE}.py:{line}"
    assert error.hint == "in the line: raise KeyError(message)"
    assert (error.retryable, error.is_outcome_unknown) == (False, False)


def test_a_failed_effect_may_have_acted(folder: Path) -> None:
    assert fault(folder, spec("fail", effect=True, message="no")).is_outcome_unknown


@pytest.mark.parametrize("effect", [False, True])
@pytest.mark.parametrize("function", ["forever", "block"])
def test_a_function_past_its_time(folder: Path, function: str, effect: bool) -> None:
    try:
        error = fault(folder, spec(function, effect=effect), Context(timeout_s=0.05))
    finally:
        module().go_on.set()
    assert error.what == "the function did not return within 0.05 s"
    assert (error.retryable, error.is_outcome_unknown) == (not effect, effect)


def test_a_timeout_of_the_function_itself_is_its_own(folder: Path) -> None:
    assert fault(folder, spec("fail_later", message="mine")).what == "TimeoutError: mine"


def test_a_call_that_found_no_thread_never_ran(folder: Path) -> None:
    async def crowd() -> None:
        operator = PythonOperator(folder)
        call = operator.bind(spec("block", effect=True), {}, {})
        blocked = [asyncio.create_task(operator.run(call, Context())) for _ in range(Context().max_concurrency)]
        await until(lambda: MODULE in sys.modules and len(module().running) == Context().max_concurrency)
        with pytest.raises(OperatorError, match="no thread was free") as caught:
            await operator.run(call, Context(timeout_s=0.05))
        assert (caught.value.retryable, caught.value.is_outcome_unknown) == (True, False)
        module().go_on.set()
        assert {(await each).value for each in blocked} == {"done"}
        assert len(module().running) == Context().max_concurrency
        await operator.close()

    asyncio.run(crowd())


@pytest.mark.parametrize("function", ["leave", "leave_later", "close_itself", "interrupt_itself", "stop"])
def test_leaving_the_process_is_an_error_of_the_row(folder: Path, function: str) -> None:
    assert re.match("(SystemExit|GeneratorExit|KeyboardInterrupt|Stop)", fault(folder, spec(function)).what)


def test_a_group_shows_what_is_in_it(folder: Path) -> None:
    assert fault(folder, spec("gather_faults")).what == "ValueError: no 1; KeyError: 2"


def test_an_exception_whose_text_raises_is_named_by_its_class(folder: Path) -> None:
    assert fault(folder, spec("be_shy")).what == "Shy (its text cannot be had: RuntimeError)"


@pytest.mark.parametrize(
    ("function", "what"),
    [
        ("ring", "the value['a'][1] contains itself"),
        ("not_a_number", "the value['ratio'] is NaN, which is no JSON number"),
        ("unbounded", "the value[0] is minus infinity, which is no JSON number"),
        ("numbered", "the value has the key 1, which is no text but of type int"),
        ("deep", f"the value{'[0]' * 20}... is nested more than 100 levels deep"),
    ],
)
def test_a_value_that_json_has_not_is_told_by_its_place(folder: Path, function: str, what: str) -> None:
    assert fault(folder, spec(function)).what == f"'{MODULE}:{function}' returned no JSON: {what}"


def test_secrets_reach_the_function_and_nothing_else(folder: Path) -> None:
    value = run(folder, spec("echo", key=f"Bearer {SECRET}", data="{{ row.text }}"), {"row": {"text": SECRET}})
    assert module().received == [{"key": f"Bearer {SECRET_VALUE}", "data": SECRET}]
    assert value == {"key": f"Bearer {SECRET}", "data": SECRET}


@pytest.mark.parametrize("function", ["fail", "fail_later"])
def test_no_part_of_a_secret_is_left_where_a_message_is_cut(folder: Path, function: str) -> None:
    for num_before in range(1960, 2010, 2):
        error = fault(folder, spec(function, message=f"{'x' * num_before}{SECRET}{'y' * 50}"))
        assert SECRET_VALUE[:4] not in str(error)


def test_traits(folder: Path) -> None:
    plain, effect = (PythonOperator(folder).traits(spec("add", effect=effect)) for effect in (False, True))
    assert (plain.sharing, plain.is_effect, plain.resource) == (Sharing.NEVER, False, None)
    assert (effect.is_effect, effect.resource) == (True, f"python:{MODULE}:add")
