"""Whatever a step's function, an engine or an exception gives, it is a value of its row: every other row is output."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.api import Flow
from sundog.engines.base import (
    ENGINES,
    Chunk,
    Engine,
    EngineOptions,
    GenerateRequest,
    Usage,
)
from sundog.errors import BadResponse, StoreError
from sundog.secrets import Secrets
from tests.engines.plain_engine import PlainEngine, PlainKind
from tests.fuzz.budget import bounded, fuzz

MODULE = "sundog_hostile_steps"
GOOD = "good"


class Wordless(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class Halting(BaseException):
    pass


class Raised(NamedTuple):
    """Raise an exception instead of giving a value."""

    kind: type[BaseException]
    text: str


class Nested(NamedTuple):
    """This class stands for so many lists in each other; hypothesis could not show them."""

    levels: int


class Digits(NamedTuple):
    """Ten to the power of `number`."""

    number: int


class Answered(NamedTuple):
    """An engine's answer; the text and the counts may be of any type, as those of a server are."""

    text: Any
    prompt: Any
    output: Any
    cached: Any


CHARACTERS = st.characters() | st.sampled_from("\ud800\udfff\x00\uffff\u2028")
TEXT = st.text(CHARACTERS, max_size=20)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary() | st.builds(object)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.integers(), inner, max_size=3),
    max_leaves=6,
)
KINDS = [
    ValueError, KeyError, RecursionError, MemoryError, AssertionError, NameError, StopIteration, StopAsyncIteration,
    TimeoutError, OSError, UnicodeError, SystemExit, GeneratorExit, Wordless, Halting,
]  # fmt: skip
RAISED = st.builds(Raised, st.sampled_from(KINDS), TEXT)
VALUES |= st.builds(Nested, st.integers(90, 3000)) | st.builds(Digits, st.integers(4290, 5000))
COUNTS = st.integers() | st.floats() | st.none() | st.sampled_from([2**53, 2**63, 10**30, "7", True, -1])
ANSWERS = (
    st.builds(Answered, TEXT, COUNTS, COUNTS, COUNTS)
    | st.builds(Answered, VALUES, st.just(3), st.just(2), st.just(1))
    | RAISED.filter(lambda raised: raised.kind is not Halting)  # what is no Exception on the run's own loop ends it
    | st.builds(Raised, st.just(BadResponse), TEXT)
)


def given_by(value: Any) -> Any:
    """Return what a step or an engine gives for a drawn value."""
    match value:
        case Raised():
            raise value.kind(value.text)
        case Nested():
            made: Any = 1
            for _ in range(value.levels):
                made = [made]
            return made
        case Digits():
            return 10**value.number
        case Answered():
            return Answered(*map(given_by, value))
    return value


class HostileEngine(PlainEngine):
    """Answers the prompt "number" with that one of `answers`."""

    answers: Sequence[Any] = ()

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        given = given_by(self.answers[int(request.messages[-1].content)])
        if given == GOOD:
            given = Answered(GOOD, 3, 2, 1)
        yield Chunk(given.text, "stop", Usage(given.prompt, given.output, given.cached))


class HostileKind(PlainKind):
    def open(self, options: EngineOptions, replica: int, secrets: Secrets) -> Engine:
        return HostileEngine()


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module whose function gives what `values` says for a row."""
    monkeypatch.setitem(ENGINES._loaded, "hostile", HostileKind)
    module = ModuleType(MODULE)
    module.__dict__["values"] = []

    def give(x: int) -> Any:
        return given_by(module.__dict__["values"][x])

    async def give_later(x: int) -> Any:
        return give(x)

    module.__dict__.update(give=give, give_later=give_later)
    monkeypatch.setitem(sys.modules, MODULE, module)
    return module


def mixed(hostile: Sequence[Any]) -> list[Any]:
    """A good value before, between and after those."""
    return [GOOD] + [value for one in hostile for value in (one, GOOD)]


def outputs_of(flow: Flow, num_rows: int) -> dict[int, Any]:
    """Run it twice; the second time must give what the first gave."""
    with TemporaryDirectory() as folder, bounded(20.0):
        state = Path(folder) / "state"
        first = flow.run(state=state)
        assert first.report.num_done + first.report.num_failed == num_rows
        again = flow.run(state=state, retry_failed=True)
        assert list(again) == list(first)
        assert [(one["row"], one["cause"]) for one in again.errors] == [
            (one["row"], one["cause"]) for one in first.errors
        ]
        return {row.row_index: row["value"] for row in first}


def good_rows(values: Sequence[Any], outputs: Mapping[int, Any]) -> bool:
    return all(outputs.get(index) == GOOD for index, value in enumerate(values) if value == GOOD)


@pytest.mark.parametrize("function", ["give", "give_later"])
@fuzz(0.1)
@given(st.lists(VALUES | RAISED, min_size=1, max_size=4))
def test_a_function_spoils_no_other_row(function: str, steps: ModuleType, hostile: list[Any]) -> None:
    if function == "give_later":
        hostile = [one for one in hostile if not (isinstance(one, Raised) and one.kind is Halting)]
    values = steps.__dict__["values"] = mixed(hostile)
    flow = Flow("hostile")
    rows = flow.input("rows", rows=[{"x": index} for index in range(len(values))])
    step = flow.step("step", "python", call=f"{MODULE}:{function}", args={"x": rows.x}, retries=0)
    flow.output(value=step)
    assert good_rows(values, outputs_of(flow, len(values)))


@fuzz(0.2)
@given(st.lists(ANSWERS, min_size=1, max_size=4))
def test_an_engine_spoils_no_other_row(hostile: list[Any]) -> None:
    values = HostileEngine.answers = mixed(hostile)
    flow = Flow("hostile")
    engine = flow.engine("e", kind="hostile", model="m")
    rows = flow.input("rows", rows=[{"x": index} for index in range(len(values))])
    answer = flow.llm("step", engine=engine, prompt=f"{rows.x}", retries=0)
    flow.output(value=answer.text)
    assert good_rows(values, outputs_of(flow, len(values)))


def test_a_failure_of_the_store_is_none_of_the_row(steps: ModuleType) -> None:
    steps.__dict__["values"] = [Raised(StoreError, "the disk is full")]
    flow = Flow("hostile")
    rows = flow.input("rows", rows=[{"x": 0}])
    flow.output(value=flow.step("step", "python", call=f"{MODULE}:give_later", args={"x": rows.x}))
    with TemporaryDirectory() as folder:
        assert flow.run(state=folder).report.num_failed == 1, "a function cannot end the run by naming our errors"
