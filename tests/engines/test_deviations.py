"""The `openai` engine against a server on a socket that sends what servers send, a line of the table for each habit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

import pytest

from sundog.engines.base import GenerateRequest, Message
from sundog.engines.openai import OpenAIKind
from sundog.engines.openai_options import OpenAIOptions
from sundog.engines.openai_protocol.answers import read_chunks
from sundog.errors import EngineError
from sundog.secrets import Secrets
from tests.engines.conformance import Answer, Started, collect
from tests.engines.deviations import FIRST, LAST, TABLE, TOLD, Bad, Deviation, Good, counted, sse
from tests.engines.server import MODEL, Behaviour, Exchange, Server, running_server

REQUEST = GenerateRequest("r", (Message("user", "What does the moon do here?" + " " * 5),))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture(scope="module")
def started(server: Server) -> Iterator[Started]:
    started = Started(OpenAIKind().open(OpenAIOptions(model=MODEL, base_url=server.base_url), 0, Secrets({})))
    yield started
    started.close()


def test_the_names_are_distinct() -> None:
    assert len({one.name for one in TABLE}) == len(TABLE)


@pytest.mark.parametrize("deviation", TABLE, ids=lambda one: one.name)
def test_a_habit_of_servers(server: Server, started: Started, deviation: Deviation) -> None:
    server.script.append(sends(deviation))
    check(deviation.expected, started)
    assert not server.script
    assert started.engine.stats().num_running == 0


def check(expected: Good | Bad, started: Started) -> None:
    match expected:
        case Good(text=text, finish_reason=finish_reason, usage=usage):
            answer = started.run(collect(started.engine, REQUEST))
            assert (answer.text, answer.chunks[-1].finish_reason, answer.usage) == (text, finish_reason, usage)
        case Bad(kind=kind, says=says, retryable=retryable):
            with pytest.raises(EngineError) as caught:
                started.run(collect(started.engine, REQUEST))
            assert (type(caught.value), caught.value.retryable) == (kind, retryable), str(caught.value)
            assert says in str(caught.value)
            assert len(caught.value.what) < 1500
            str(caught.value).encode()


def sends(deviation: Deviation) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.send_body(deviation.status, deviation.body, deviation.content_type, **deviation.headers)

    return behave


@pytest.mark.parametrize("deviation", TABLE, ids=lambda one: one.name)
def test_it_is_the_same_in_pieces_of_any_size(deviation: Deviation) -> None:
    if deviation.status != 200 or deviation.headers or len(deviation.body) > 5000:
        pytest.skip("no answer that the reader sees")
    whole = outcome(deviation.body, 10_000)
    assert all(outcome(deviation.body, size) == whole for size in (1, 2, 3, 7, 64))


def outcome(body: bytes, size: int) -> tuple[object, ...]:
    async def read() -> Answer:
        async def pieces() -> AsyncGenerator[bytes, None]:
            for start in range(0, len(body), size):
                yield body[start : start + size]

        return Answer([chunk async for chunk in read_chunks(pieces(), lambda: 12)])

    try:
        answer = asyncio.run(read())
    except EngineError as error:
        return type(error), str(error), error.retryable
    return answer.text, answer.chunks[-1].finish_reason, answer.usage


def test_an_answer_that_has_ended_counts_whatever_the_connection_does(server: Server, started: Started) -> None:
    async def ends_and_aborts(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.send_raw(sse(FIRST, LAST, counted(TOLD), end=b""))
        exchange.writer.transport.abort()

    server.script.append(ends_and_aborts)
    check(Good(), started)
