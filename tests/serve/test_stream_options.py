"""Servers that refuse to be asked for the tokens of a stream: they get the request again without that, once."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sundog.ir.logical import EngineBlock
from tests.engines.server import Exchange, Server, event, running_server
from tests.serve.asking import ask, listening_to
from tests.serve.running import Running, running

HELLO: Any = [{"role": "user", "content": "hello"}]
BODIES: Any = {
    "/v1/chat/completions": {"messages": HELLO},
    "/v1/completions": {"prompt": "hello"},
    "/v1/responses": {"input": "hello"},
    "/v1/messages": {"messages": HELLO, "max_tokens": 9},
}
WARNING = "refuses 'stream_options'"


@pytest.fixture
def upstream() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def gateway(upstream: Server, tmp_path: Path) -> Iterator[Running]:
    block = EngineBlock("front", "openai", {"model": "served", "base_url": upstream.base_url})
    with running(tmp_path, engines=[block]) as server:
        yield server


def said_wrong(status: int, message: str) -> Any:
    async def answer(exchange: Exchange) -> None:
        await exchange.send(status, json.dumps({"error": {"message": message, "type": "invalid_request_error"}}))

    return answer


async def without_tokens(exchange: Exchange) -> None:
    await exchange.begin_stream()
    await exchange.send_event(event("/chat/" in exchange.path, "fine", "stop"))
    await exchange.end_stream()


def stream(gateway: Running, path: str, **more: Any) -> Any:
    body = {"model": "served", "stream": True, "temperature": 1, **BODIES[path], **more}
    return ask(gateway.address, "POST", path, body, as_text=True)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("status", [400, 422])
def test_it_is_asked_again_without_once(
    gateway: Running, upstream: Server, path: str, temperature: int, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    upstream.script += [said_wrong(status, "unknown field: stream_options"), without_tokens, without_tokens]
    before = len(upstream.exchanges)
    with caplog.at_level(logging.WARNING, "sundog.serve"):
        for seed in range(2):
            more = {"seed": seed} if path in ("/v1/chat/completions", "/v1/completions") else {"max_tokens": 9 + seed}
            more = {"max_output_tokens": 9 + seed} if path == "/v1/responses" else more
            heard = stream(gateway, path, temperature=temperature, **more)
            assert heard.status == 200
            assert "fine" in heard.body
    asked = ["stream_options" in one.body for one in upstream.exchanges[before:]]
    assert asked == [True, False, False], "what it refuses is remembered"
    assert [one.getMessage().count("front/0") for one in caplog.records if WARNING in one.getMessage()] == [1]


def test_a_client_that_asks_itself_is_told_the_refusal(gateway: Running, upstream: Server) -> None:
    upstream.script.append(said_wrong(400, "unknown field: stream_options"))
    heard = stream(gateway, "/v1/chat/completions", stream_options={"include_usage": True})
    assert (heard.status, "unknown field" in heard.body) == (400, True)


def test_what_is_wrong_all_the_same_is_told_and_not_remembered(gateway: Running, upstream: Server) -> None:
    upstream.script += [said_wrong(422, "top_k: wrong; input: {stream_options: ...}"), said_wrong(422, "top_k: wrong")]
    heard = stream(gateway, "/v1/chat/completions", top_k="x")
    assert (heard.status, json.loads(heard.body)["error"]["message"]) == (422, "top_k: wrong")
    assert "usage" not in stream(gateway, "/v1/chat/completions").body
    assert "stream_options" in upstream.exchanges[-1].body, "it is asked again, and what it tells is hidden"


@pytest.mark.parametrize(("status", "message"), [(400, "top_k: wrong"), (404, "no stream_options here")])
def test_other_errors_are_told_at_once(gateway: Running, upstream: Server, status: int, message: str) -> None:
    before = len(upstream.exchanges)
    upstream.script.append(said_wrong(status, message))
    assert stream(gateway, "/v1/chat/completions").status == status
    assert len(upstream.exchanges) == before + 1


@pytest.mark.parametrize(("path", "name"), [("/v1/messages", "message_delta"), ("/v1/responses", "response.completed")])
def test_streams_of_engines_of_this_process_tell_their_tokens(tmp_path: Path, path: str, name: str) -> None:
    body = {"model": "served", "stream": True, "temperature": 1, **BODIES[path]}
    with (
        running(tmp_path, engines=[EngineBlock("one", "null", {"model": "served"})]) as server,
        listening_to(server.address, "POST", path, body) as events,
    ):
        (told,) = [one.data for one in events if one.name == name]
    assert told.get("response", told)["usage"]["output_tokens"] > 0
