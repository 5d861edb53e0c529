"""Answers, streams and errors of servers, mutated: a value or an EngineError, never anything else and never a hang."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.engines.base import GenerateRequest, Message
from sundog.engines.openai.protocol.answers import read_chunks, read_whole
from sundog.engines.openai.protocol.failures import engine_error_of
from sundog.errors import EngineError
from tests.engines.conformance import collect
from tests.engines.deviations import TABLE, piece, sse
from tests.engines.scripted import Scripted, scripted_engine
from tests.engines.server import Exchange
from tests.engines.tool_deviations import CALLS
from tests.fuzz.budget import bounded, fuzz

MAX_SEED_BYTES = 4000
BODIES = [body for body in [*(one.body for one in TABLE), *(one.body for one in CALLS)] if len(body) <= MAX_SEED_BYTES]
SCRAPS = [
    b"\n", b"\r", b"\r\n", b"\n\n", b"data:", b"data: ", b"data: [DONE]\n\n", b"[DONE]", b": ping\n\n", b"\xef\xbb\xbf",
    b"{", b"}", b"[", b"]", b'"', b"\\", b",", b"null", b"1e999", b"NaN", b"-1", b"9" * 5000, b"[" * 3000, b"{}",
    b"\x00",    b'\\ud83d', b'\\udf19', b"\xff", b'"error":', b'"choices":', b'"usage":', b'"content":"x"',
    b'"finish_reason":"stop"',    b'"index":1,', b'"text":', b'"refusal":"no"', b'"delta":', b'"message":',
]  # fmt: skip

KEYS = """choices usage error message detail object code type delta content text refusal finish_reason index role
prompt_tokens completion_tokens prompt_tokens_details cached_tokens reasoning_content tool_calls function name arguments
id"""
keys = st.sampled_from(KEYS.split())
anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("stop"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A body of the table after a few changes at places of any kind."""
    body = draw(st.sampled_from(BODIES))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.integers(0, 60)))
        match draw(st.sampled_from(["cut", "delete", "double", "flip", "insert", "replace", "move", "value"])):
            case "cut":
                body = body[:start]
            case "delete":
                body = body[:start] + body[end:]
            case "double":
                body = body[:end] + body[start:]
            case "flip":
                body = (
                    body[:start] + bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in body[start:end]) + body[end:]
                )
            case "insert":
                body = body[:start] + draw(st.sampled_from(SCRAPS)) + body[start:]
            case "replace":
                body = body[:start] + draw(st.sampled_from(SCRAPS)) + body[end:]
            case "move":
                body = body[end:] + body[start:end] + body[:start]
            case "value":
                body = body[:start] + json.dumps(draw(anything)).encode() + body[end:]
    return body


structured = st.lists(anything, max_size=4).map(lambda events: sse(*events))
structured |= st.dictionaries(keys, anything).map(lambda event: json.dumps(event).encode())
bodies = mutated() | mutated() | mutated() | structured


def outcome(body: bytes, sizes: list[int], *, takes_calls: bool = False) -> tuple[Any, ...]:
    """Return what a reader makes of `body` in pieces of `sizes`, the last of which is repeated."""

    async def pieces() -> AsyncGenerator[bytes, None]:
        start = index = 0
        while start < len(body):
            size = sizes[min(index, len(sizes) - 1)]
            yield body[start : start + size]
            start, index = start + size, index + 1

    async def read() -> tuple[Any, ...]:
        chunks = [chunk async for chunk in read_chunks(pieces(), lambda: 12, takes_calls=takes_calls)]
        assert all((chunk.finish_reason, chunk.usage, chunk.tool_calls) == (None, None, ()) for chunk in chunks[:-1])
        last = chunks[-1]
        return "".join(chunk.text for chunk in chunks), last.finish_reason, last.usage, last.tool_calls

    try:
        return asyncio.run(read())
    except EngineError as error:
        str(error).encode()
        return type(error), str(error), error.retryable


@given(bodies, st.lists(st.integers(1, 400), min_size=1, max_size=6), st.booleans())
@fuzz(4)
def test_whatever_comes_is_an_answer_or_an_engine_error(body: bytes, sizes: list[int], takes_calls: bool) -> None:
    with bounded():
        found = outcome(body, [len(body) + 1], takes_calls=takes_calls)
        if isinstance(found[0], str):
            found[0].encode()
            assert found[2].num_prompt_tokens >= 0 <= found[2].num_output_tokens
            for call in found[3]:
                f"{call.id}{call.name}{call.arguments}".encode()
            whole = read_whole(body, lambda: 12, takes_calls=takes_calls)
            assert (whole.text, whole.finish_reason, whole.usage, whole.tool_calls) == found
        assert outcome(body, sizes, takes_calls=takes_calls) == found, "however the bytes are split"


@given(st.lists(st.text(max_size=12), max_size=12), st.lists(st.integers(1, 90), min_size=1, max_size=6), st.booleans())
@fuzz(2)
def test_an_unharmed_stream_is_its_text(texts: list[str], sizes: list[int], is_ascii: bool) -> None:
    events = [json.dumps(piece({"content": text}), ensure_ascii=is_ascii) for text in texts]
    body = "".join(f"data: {event}\n\n" for event in events).encode("utf-8", "replace")
    body += sse(piece({}, "stop"))
    whole = "".join(texts)
    if not is_ascii:
        whole = whole.encode("utf-8", "replace").decode()
    assert outcome(body, sizes)[:2] == (whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), "stop")


words = st.text(max_size=40) | st.from_regex(r"[0-9]{1,400}(\.[0-9]+)?|(Mon|Fri), [0-9]{1,2} (Dec|Jan) [0-9]{4} .*")


@given(st.integers(300, 599), st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms"]), words), bodies)
@fuzz(2)
def test_whatever_an_error_says_is_an_engine_error(status: int, headers: dict[str, str], body: bytes) -> None:
    with bounded():
        error = engine_error_of(status, headers, body, now_s=1.7e9)
    str(error).encode()
    assert len(error.what) < 4200
    assert error.retry_after_s is None or 0 <= error.retry_after_s <= 1e9


@pytest.fixture(scope="module")
def scripted() -> Iterator[Scripted]:
    with scripted_engine() as scripted:
        yield scripted


@given(bodies, st.sampled_from([200, 200, 200, 400, 429, 500]), st.booleans())
@fuzz(0.5)
def test_over_a_socket_too(scripted: Scripted, body: bytes, status: int, is_streamed: bool) -> None:
    server, started = scripted

    async def behave(exchange: Exchange) -> None:
        await exchange.send_body(status, body, "text/event-stream")

    server.script.append(behave)
    request = GenerateRequest("r", (Message("user", "x" * 30),), needs_first_token=is_streamed)
    with bounded():
        try:
            answer = started.run(collect(started.engine, request))
            assert answer.text == outcome(body, [len(body) + 1])[0]
        except EngineError as error:
            str(error).encode()
    assert started.engine.stats().num_running == 0
