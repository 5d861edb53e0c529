"""The gateway, asked by the clients that people use: over engines of this process, and over a server behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from sundog.ir.logical import EngineBlock
from tests.serve.running import Running, running

MODEL = EngineBlock("one", "null", {"model": "model-one"})
HELLO: Any = [{"role": "user", "content": "hello"}]
TOOLS: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("own"), engines=[MODEL]) as server:
        yield server


@pytest.fixture(scope="module")
def behind(own: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway whose engine is a server: the other gateway."""
    block = EngineBlock("front", "openai", {"model": "model-one", "base_url": f"{own.address}/v1"})
    with running(tmp_path_factory.mktemp("behind"), engines=[block]) as server:
        yield server


@pytest.fixture(params=["own", "behind"])
def client(request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    server: Running = request.getfixturevalue(request.param)
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as one:
        yield one


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert "model-one" in [model.id for model in client.models.list()]
    assert client.models.retrieve("model-one").id == "model-one"


def test_a_chat_is_answered_whole_and_as_a_stream(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="model-one", messages=HELLO)
    options: Any = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model="model-one", messages=HELLO, stream=True, stream_options=options)
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage == whole.usage


def test_completions_and_vectors_are_answered(client: openai.OpenAI) -> None:
    assert client.completions.create(model="model-one", prompt="x").choices[0].text
    vectors = client.embeddings.create(model="model-one", input=["a", "b"]).data
    assert [len(one.embedding) for one in vectors] == [8, 8]
    assert vectors[0].embedding != vectors[1].embedding


def test_responses_follow_each_other(client: openai.OpenAI) -> None:
    first = client.responses.create(model="model-one", input="hello", temperature=0)
    after = client.responses.create(model="model-one", input="on", previous_response_id=first.id, temperature=0)
    alone = client.responses.create(model="model-one", input="on", temperature=0)
    assert after.output_text != alone.output_text, "the conversation before it is a part of its prompt"
    assert client.responses.retrieve(first.id).output_text == first.output_text
    with client.responses.stream(model="model-one", input="hello", temperature=0) as events:
        assert [event.type for event in events][-1] == "response.completed"
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="model-one", input="on", previous_response_id="resp_none")


def test_an_answer_that_is_not_to_be_stored_is_not(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="model-one", input="hello", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


@pytest.mark.parametrize(
    ("body", "error", "param"),
    [
        ({"model": "mode-one", "messages": HELLO}, openai.NotFoundError, "model"),
        ({"model": "model-one", "messages": []}, openai.BadRequestError, "messages"),
        ({"model": "model-one", "messages": HELLO, "max_tokens": -1}, openai.BadRequestError, "max_tokens"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    client: openai.OpenAI, body: dict[str, Any], error: type[openai.APIStatusError], param: str
) -> None:
    with pytest.raises(error) as refused:
        client.chat.completions.create(**body)
    assert refused.value.param == param
    assert refused.value.type == ("not_found_error" if param == "model" else "invalid_request_error")


def test_calls_of_a_session_are_one_program(own: Running) -> None:
    seen: list[Any] = []
    driver = own.serving.host.driver
    whole, driver._handle = driver._handle, lambda event: (seen.append(event), whole(event))[1]  # type: ignore[method-assign,func-returns-value]  # a spy
    try:
        with openai.OpenAI(base_url=f"{own.address}/s/agent-7/v1", api_key="none") as one:
            for _ in range(2):
                one.chat.completions.create(model="model-one", messages=HELLO)
        with openai.OpenAI(base_url=f"{own.address}/v1", api_key="none") as one:
            one.chat.completions.create(model="model-one", messages=HELLO, extra_headers={"x-session-id": "agent-7"})
            one.chat.completions.create(model="model-one", messages=HELLO)
            one.chat.completions.create(model="model-one", messages=HELLO, tools=TOOLS)
    finally:
        driver._handle = whole  # type: ignore[method-assign]  # as above
    arrived = [event for event in seen if type(event).__name__ == "RequestArrived"]
    names = [event.workflow_id for event in arrived]
    assert names[:4] == ["/agent-7", "/agent-7", "/agent-7", ""]
    assert names[4], "a call with tools is a program of its own"
    assert [event.depth for event in arrived[:3]] == [0, 1, 2]


def test_a_client_that_leaves_ends_its_call(tmp_path: Path) -> None:
    slow = EngineBlock("slow", "null", {"model": "slow", "latency_s": 60.0})
    with running(tmp_path, engines=[slow]) as server:
        with (
            openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0, timeout=0.2) as one,
            pytest.raises(openai.APITimeoutError),
        ):
            one.chat.completions.create(model="slow", messages=HELLO)

        async def left() -> int:
            for _ in range(100):
                if not server.serving.host.models.num_in_flight:
                    break
                await asyncio.sleep(0.01)
            return server.serving.host.models.num_in_flight

        assert asyncio.run_coroutine_threadsafe(left(), server.loop).result() == 0


def test_equal_greedy_calls_are_made_once(tmp_path: Path) -> None:
    slow = EngineBlock("slow", "null", {"model": "slow", "latency_s": 0.05})
    with running(tmp_path, engines=[slow]) as server:

        async def ask(number: int) -> str:
            async with openai.AsyncOpenAI(base_url=f"{server.address}/v1", api_key="none") as one:
                if number % 2:
                    return (await one.responses.create(model="slow", input="hello", temperature=0)).output_text
                answer = await one.chat.completions.create(
                    model="slow", messages=HELLO, temperature=0, user=str(number)
                )
                return answer.choices[0].message.content or ""

        async def ask_all() -> list[str]:
            return await asyncio.gather(*map(ask, range(8)))

        texts = asyncio.run(ask_all()) + asyncio.run(ask_all())
        assert len(set(texts)) == 1
        stats = server.serving.host.engines.engines["slow/0"].stats()
        assert stats.num_requests == 1
        assert server.serving.host.shared.num_reused == 15


def test_calls_in_flight_end_before_the_server_does(tmp_path: Path) -> None:
    slow = EngineBlock("slow", "null", {"model": "slow", "latency_s": 0.2})

    async def ask_and_stop(server: Running) -> str:
        async with openai.AsyncOpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0) as one:
            asked = asyncio.ensure_future(one.chat.completions.create(model="slow", messages=HELLO))
            while not server.serving.host.models.num_in_flight:  # noqa: ASYNC110 - a count of another loop
                await asyncio.sleep(0)
            draining = asyncio.run_coroutine_threadsafe(server.serving.drain(30.0), server.loop)
            answer = await asked
            await asyncio.wrap_future(draining)
            with pytest.raises(openai.InternalServerError):
                await one.chat.completions.create(model="slow", messages=HELLO)
            return answer.choices[0].finish_reason

    with running(tmp_path, engines=[slow]) as server:
        assert asyncio.run(ask_and_stop(server)) == "stop"
