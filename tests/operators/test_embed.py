"""The embed step: what goes in one request, and what each call gets of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

from sundog.engines.base import Chunk, GenerateRequest, Usage
from sundog.engines.embeddings import Embeddings, EmbedRequest
from sundog.engines.modelled.vectors import hashed_vector
from sundog.errors import EngineOverloaded, FlowError
from sundog.ir.logical import EngineBlock
from sundog.operators.embed import MAX_CHARACTERS, MAX_TEXTS, EmbedOperator, EmbedSpec
from sundog.operators.llm import LLMOperator, LLMSpec
from tests.engines.plain_engine import PlainEngine

from .conformance import Case, Context, OperatorConformance, Subject

IDENTITY = {"kind": "null", "model": "m"}


class VectorEngine(PlainEngine):
    """Gives hashed vectors; "never" blocks, "busy" fails."""

    def __init__(self) -> None:
        self.requests: list[Sequence[str]] = []
        self.num_running = 0

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        raise AssertionError("nobody asks for an answer")

    async def embed(self, request: EmbedRequest) -> Embeddings:
        self.requests.append(request.texts)
        self.num_running += 1
        try:
            if "never" in request.texts:
                await asyncio.Event().wait()
            if "busy" in request.texts:
                raise EngineOverloaded("busy", retryable=True)
        finally:
            self.num_running -= 1
        vectors = tuple(hashed_vector("m", text, request.dimensions) for text in request.texts)
        return Embeddings(vectors, Usage(10, 0))


def spec(**fields: Any) -> EmbedSpec:
    return EmbedSpec.model_validate({"engine": "local", "text": "{{ row.text }}", **fields})


class TestConformance(OperatorConformance):
    @pytest.fixture
    def subject(self) -> Subject:
        engine = VectorEngine()
        return Subject(
            operator=EmbedOperator(Path()),
            good=Case(spec(), {"row": {"text": "good"}}),
            other=Case(spec(), {"row": {"text": "other"}}),
            unbound=(Case(spec(), {"row": {}}), Case(spec(), {"row": {"text": " "}})),
            faulty=(Case(spec(), {"row": {"text": "busy"}}),),
            endless=Case(spec(), {"row": {"text": "never"}}),
            num_running=lambda: engine.num_running,
            engines={"local": EngineBlock("local", "null", {"model": "m"})},
            identities={"local": IDENTITY},
            engine=engine,
        )


def gathered(texts: Sequence[str]) -> tuple[list[Any], VectorEngine]:
    operator, engine, written = EmbedOperator(Path()), VectorEngine(), spec(dimensions=2)
    calls = [operator.bind(written, {"row": {"text": text}}, {"local": IDENTITY}) for text in texts]
    return list(asyncio.run(operator.run_gathered(written, calls, Context(llm=engine)))), engine


def test_gathered_calls_get_what_they_get_alone_and_the_tokens_of_the_request_in_all() -> None:
    texts = ["a", "bb", "cccc"]
    outcomes, engine = gathered(texts)
    assert engine.requests == [texts]
    assert [outcome.value for outcome in outcomes] == [{"vector": list(hashed_vector("m", text, 2))} for text in texts]
    assert [outcome.usage.num_prompt_tokens for outcome in outcomes] == [1, 3, 6]


def test_a_request_has_bounds() -> None:
    _, engine = gathered([str(number) for number in range(MAX_TEXTS + 1)])
    assert [len(texts) for texts in engine.requests] == [MAX_TEXTS, 1]
    half = MAX_CHARACTERS // 2
    _, engine = gathered(["x" * half, "y" * half, "z"])
    assert [len(texts) for texts in engine.requests] == [2, 1]


def test_a_text_that_is_longer_than_a_request_goes_alone() -> None:
    operator, written = EmbedOperator(Path()), spec()
    long, short = (
        operator.bind(written, {"row": {"text": "x" * length}}, {"local": IDENTITY})
        for length in (MAX_CHARACTERS + 1, MAX_CHARACTERS)
    )
    assert operator.group_of(written, long) is None
    assert operator.group_of(written, short) is not None


def test_what_came_before_a_failure_is_kept() -> None:
    outcomes, _ = gathered([*(str(number) for number in range(MAX_TEXTS)), "busy"])
    assert [outcome is None for outcome in outcomes] == [False] * MAX_TEXTS + [True]
    with pytest.raises(EngineOverloaded):
        gathered(["one", "busy"])


@pytest.mark.parametrize(
    ("kind", "says"), [("openvino", "gives no vectors"), ("vllm_local", "gives no vectors"), (None, "no engine")]
)
def test_an_engine_without_vectors_is_refused(kind: str | None, says: str) -> None:
    engines = {} if kind is None else {"local": EngineBlock("local", kind, {"model": "m"})}
    with pytest.raises(FlowError, match=says):
        EmbedOperator(Path()).check(spec(), engines)


@pytest.mark.parametrize(("output", "is_one"), [("last_hidden_state", True), ("logits", False)])
def test_the_model_in_a_folder_decides_which_steps_may_ask_it(tmp_path: Path, output: str, is_one: bool) -> None:
    (tmp_path / "openvino_model.xml").write_text(f'<layer type="Result" output_names="{output}">')
    engines = {"local": EngineBlock("local", "openvino", {"model": str(tmp_path)})}
    for_vectors: Any = EmbedOperator(Path()), spec()
    for_answers: Any = LLMOperator(Path()), LLMSpec.model_validate({"engine": "local", "prompt": "x"})
    (taken, of_taken), (refused, of_refused) = (for_vectors, for_answers)[:: 1 if is_one else -1]
    taken.check(of_taken, engines)
    with pytest.raises(FlowError, match="gives vectors, and no answers" if is_one else "gives no vectors"):
        refused.check(of_refused, engines)
