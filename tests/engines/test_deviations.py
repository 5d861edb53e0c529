"""The `openai` engine against a server on a socket that sends what servers send, a line of the table for each habit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

import pytest

from sundog.engines.base import GenerateRequest, Message
from sundog.engines.openai.protocol import answers
from sundog.engines.openai.protocol.answers import read_chunks
from sundog.errors import EngineError
from tests.engines.conformance import Answer, Started, collect
from tests.engines.deviations import FIRST, LAST, TABLE, TOLD, Bad, Deviation, Good, counted, sse
from tests.engines.scripted import Scripted, scripted_engine
from tests.engines.server import Behaviour, Exchange

REQUEST = GenerateRequest("r", (Message("user", "What does the moon do here?" + " " * 5),))


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    with scripted_engine() as scripted:
        yield scripted


def test_the_names_are_distinct() -> None:
    assert len({one.name for one in TABLE}) == len(TABLE)


@pytest.mark.parametrize("deviation", TABLE, ids=lambda one: one.name)
def test_a_habit_of_servers(scripted: Scripted, deviation: Deviation) -> None:
    server, started = scripted
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


def test_a_stream_that_stays_open_after_the_answer_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "LINGER_S", 0.01)

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield sse(FIRST, LAST, end=b"")
        await asyncio.Event().wait()

    async def read() -> Answer:
        async with asyncio.timeout(30):
            return Answer([chunk async for chunk in read_chunks(pieces(), lambda: 12)])

    answer = asyncio.run(read())
    assert (answer.text, answer.chunks[-1].finish_reason) == (Good().text, "stop")


def test_an_answer_that_has_ended_counts_whatever_the_connection_does(scripted: Scripted) -> None:
    async def ends_and_aborts(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.send_raw(sse(FIRST, LAST, counted(TOLD), end=b""))
        exchange.writer.transport.abort()

    scripted.server.script.append(ends_and_aborts)
    check(Good(), scripted.started)
