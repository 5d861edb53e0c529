"""Vectors of texts: what goes over the wire, and answers that are none."""

from __future__ import annotations

import asyncio
import json
from typing import Any, ClassVar

import pytest

from sundog.engines.base import Engine, EngineOptions
from sundog.engines.embeddings import EmbeddingEngine, Embeddings, EmbedRequest
from sundog.engines.modelled.null import NullKind, NullOptions
from sundog.engines.modelled.vectors import hashed_vector
from sundog.engines.openai.engine import OpenAIKind
from sundog.engines.openai.options import OpenAIOptions
from sundog.engines.vllm.engine import VLLMKind, VLLMOptions
from sundog.errors import BadResponse, EngineError, EngineOverloaded, EngineUnavailable, PromptTooLong
from sundog.secrets import Secrets
from tests.engines.embedding_conformance import EmbeddingConformance
from tests.engines.server import MODEL, Behaviour, Exchange, Server

TWO = EmbedRequest("r", ("one", "two"))


class TestNull(EmbeddingConformance):
    kind = NullKind()

    @classmethod
    def options(cls) -> NullOptions:
        return NullOptions(max_concurrency=4)


class TestNullInSteps(TestNull):
    @classmethod
    def options(cls) -> NullOptions:
        return NullOptions(step_time=(0.0, 0.0, 0.0, 0.0, 0.0), max_kv_tokens=64)


class TestServed(EmbeddingConformance):
    kind: Any = OpenAIKind()
    counts_exactly = False
    served: ClassVar[Server]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def serve(cls, module_server: Server) -> None:
        cls.served = module_server

    @classmethod
    def options(cls) -> EngineOptions:
        return OpenAIOptions(model=MODEL, base_url=cls.served.base_url)


class TestVLLMServed(TestServed):
    kind = VLLMKind()

    @classmethod
    def options(cls) -> EngineOptions:
        return VLLMOptions(model=MODEL, base_url=cls.served.base_url)


def ask(engine: Engine, request: EmbedRequest) -> Embeddings:
    async def run() -> Embeddings:
        await engine.start()
        try:
            assert isinstance(engine, EmbeddingEngine)
            return await engine.embed(request)
        finally:
            await engine.close()

    return asyncio.run(run())


def ask_server(server: Server, request: EmbedRequest, behaviour: Behaviour | None = None, **fields: Any) -> Embeddings:
    options = OpenAIOptions(model=MODEL, base_url=server.base_url, **fields)
    if behaviour is not None:
        # The engine asks for the list of models first.
        server.script += [sends(200, {"data": [{"id": MODEL}]}), behaviour]
    return ask(OpenAIKind().open(options, 0, Secrets({})), request)


def sends(status: int, body: Any) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.send(status, body if isinstance(body, str) else json.dumps(body))

    return behave


def listed(*vectors: Any) -> dict[str, Any]:
    return {"data": [{"index": index, "embedding": vector} for index, vector in enumerate(vectors)]}


def test_the_request_is_what_was_asked_for_and_vectors_come_in_its_order(server: Server) -> None:
    extra = {"user": "me", "input": ["other"], "dimensions": 9}
    answer = ask_server(server, EmbedRequest("r", ("one", "two"), 3), extra_body=extra)
    sent = server.exchanges[-1]
    assert (sent.method, sent.path) == ("POST", "/v1/embeddings")
    assert sent.body == {
        "model": MODEL,
        "input": ["one", "two"],
        "encoding_format": "float",
        "dimensions": 3,
        "user": "me",
    }
    assert answer.vectors == (hashed_vector(MODEL, "one", 3), hashed_vector(MODEL, "two", 3))
    assert (answer.usage.num_prompt_tokens, answer.usage.num_output_tokens) == (6, 0)


def test_a_vllm_server_speaks_the_same(server: Server) -> None:
    options = VLLMOptions(model=MODEL, base_url=server.base_url)
    answer = ask(VLLMKind().open(options, 0, Secrets({})), TWO)
    assert answer.vectors == (hashed_vector(MODEL, "one"), hashed_vector(MODEL, "two"))
    assert "dimensions" not in server.exchanges[-1].body


def test_entries_without_an_index_are_in_order_and_integers_are_numbers(server: Server) -> None:
    body = {"data": [{"embedding": [1, 2]}, {"embedding": [3.5, 4]}]}
    answer = ask_server(server, TWO, sends(200, body))
    assert answer.vectors == ((1.0, 2.0), (3.5, 4.0))
    assert answer.usage.is_estimated


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("no json", "not JSON"),
        ([1], "not an object"),
        ({}, "no vectors"),
        ({"data": {}}, "no vectors"),
        (listed([1.0]), "1 vectors for 2 texts"),
        (listed([1.0], [1.0], [1.0]), "3 vectors for 2 texts"),
        ({"data": [[1.0], [2.0]]}, "no objects"),
        ({"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]}, "each text once"),
        ({"data": [{"index": 1, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}]}, "each text once"),
        ({"data": [{"index": 0, "embedding": [1.0]}, {"embedding": [1.0]}]}, "each text once"),
        (listed([1.0], []), "without a vector"),
        (listed([1.0], None), "without a vector"),
        (listed([1.0], "AACAPw=="), "as text"),
        (listed([1.0], ["1.0"]), "no number"),
        (listed([1.0], [True]), "no number"),
        (listed([1.0], [None]), "no number"),
        (listed([1.0], [float("nan")]), "NaN"),
        (listed([1.0], [float("-inf")]), "NaN"),
        (listed([1.0], [10**400]), "NaN"),
        (listed([1.0], [1.0, 2.0]), "different lengths"),
    ],
)
def test_what_is_no_answer_is_never_a_vector(server: Server, body: Any, says: str) -> None:
    with pytest.raises(BadResponse, match=says):
        ask_server(server, TWO, sends(200, body))


def test_a_vector_of_another_length_than_asked_for_is_refused_for_good(server: Server) -> None:
    with pytest.raises(BadResponse, match="2 numbers, and 3 were asked for") as caught:
        ask_server(server, EmbedRequest("r", ("one",), 3), sends(200, listed([1.0, 2.0])))
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (429, {"error": {"message": "slow down"}}, EngineOverloaded),
        (500, {"error": {"message": "oh"}}, EngineUnavailable),
        (400, {"error": {"message": "the model does not support embeddings"}}, BadResponse),
        (400, {"error": {"message": "maximum context length is 8 tokens"}}, PromptTooLong),
        (200, {"error": {"message": "it is down", "code": 503}}, EngineOverloaded),
    ],
)
def test_failures_mean_what_they_mean_for_answers(
    server: Server, status: int, body: Any, kind: type[EngineError]
) -> None:
    with pytest.raises(kind):
        ask_server(server, TWO, sends(status, body))


def test_vectors_of_the_null_engine_are_of_the_text_alone() -> None:
    one, two, again = ask(
        NullKind().open(NullOptions(), 0, Secrets({})), EmbedRequest("r", ("one", "two", "one"), 4)
    ).vectors
    assert one == again != two
    assert [round(sum(number * number for number in vector), 9) for vector in (one, two)] == [1.0] * 2
