from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from sundog.engines.base import GenerateRequest, Message
from sundog.engines.openai.connection import Connection
from sundog.engines.openai.engine import OpenAIEngine, OpenAIKind
from sundog.engines.openai.options import OpenAIOptions
from sundog.errors import (
    BadResponse,
    ConfigError,
    EngineError,
    EngineOverloaded,
    EngineTimeout,
    EngineUnavailable,
    PromptTooLong,
)
from sundog.secrets import Secrets
from tests.engines.conformance import SCHEMA, Answer, EngineConformance, ask_for, collect
from tests.engines.server import MODEL, Behaviour, Exchange, Server, event, running_server

KEY = "sk-secret-of-the-test"
WAIT_S = 10.0


class OverServer(EngineConformance):
    kind = OpenAIKind()
    counts_exactly = False
    server: ClassVar[Server]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def serve(cls) -> Iterator[None]:
        with running_server() as cls.server:
            yield


class TestChatConformance(OverServer):
    @classmethod
    def options(cls) -> OpenAIOptions:
        return OpenAIOptions(model=MODEL, base_url=cls.server.base_url)


class TestCompletionsConformance(OverServer):
    @classmethod
    def options(cls) -> OpenAIOptions:
        return OpenAIOptions(model=MODEL, base_url=cls.server.base_url, api="completions")


def options_for(server: Server, **fields: Any) -> OpenAIOptions:
    return OpenAIOptions(**{"model": MODEL, "base_url": server.base_url, **fields})


async def one_answer(server: Server, request: GenerateRequest, **fields: Any) -> Answer:
    engine = OpenAIKind().open(options_for(server, **fields), 0, Secrets({"KEY": KEY}))
    script, server.script = server.script.copy(), type(server.script)()
    await engine.start()
    server.script = script
    try:
        return await collect(engine, request)
    finally:
        await engine.close()
        assert engine.stats().num_running == 0


def answer_of(server: Server, *behaviours: Behaviour, request: GenerateRequest | None = None, **fields: Any) -> Answer:
    server.script.extend(behaviours)
    return asyncio.run(one_answer(server, request or ask_for("Say hello."), **fields))


def error_of(server: Server, behaviour: Behaviour, **fields: Any) -> EngineError:
    with pytest.raises(EngineError) as caught:
        answer_of(server, behaviour, **fields)
    assert KEY not in repr(caught.value)
    assert KEY not in str(caught.value)
    return caught.value


def status(number: int, body: Any = None, **headers: str) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.send(number, body if isinstance(body, str) else json.dumps(body or {}), **headers)

    return behave


def stream(*events: Any, ends: bool = True) -> Behaviour:
    async def behave(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for one in events:
            await (exchange.send_raw(one) if isinstance(one, bytes) else exchange.send_event(one))
        if ends:
            await exchange.end_stream()
        else:
            exchange.writer.transport.abort()

    return behave


async def reset(exchange: Exchange) -> None:
    exchange.writer.transport.abort()


async def hang(exchange: Exchange) -> None:
    await asyncio.Event().wait()


def num_posts(server: Server) -> int:
    return sum(one.method == "POST" for one in server.exchanges)


USAGE = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}


def test_the_request_on_the_wire(server: Server) -> None:
    request = GenerateRequest(
        "r", (Message("user", "Hi\u2028there"),), 7, 0.5, 3, ("\n\n",), '{"type": "boolean"}', priority=4
    )
    fields = {
        "api_key": "${env:KEY}",
        "has_priority": True,
        "extra_body": {"top_p": 0.9, "model": "not this one", "stream": True},
    }
    answer_of(server, request=request, **fields)
    asked = server.exchanges[-1]
    assert (asked.method, asked.path) == ("POST", "/v1/chat/completions")
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.body == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Hi\u2028there"}],
        "stream": False,
        "max_tokens": 7,
        "temperature": 0.5,
        "seed": 3,
        "stop": ["\n\n"],
        "top_p": 0.9,
        "priority": 4,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": {"type": "boolean"}},
        },
    }


def test_what_was_not_asked_for_is_not_sent(server: Server) -> None:
    answer_of(server, api="completions")
    body = server.exchanges[-1].body
    assert body["prompt"] == "You are brief.\n\nSay hello."
    assert set(body) == {"model", "prompt", "stream", "temperature"}
    assert "authorization" not in server.exchanges[-1].headers


def test_a_temperature_of_null_is_not_sent(server: Server) -> None:
    answer_of(server, request=replace(ask_for("Say hello."), temperature=None))
    assert "temperature" not in server.exchanges[-1].body


def test_extra_fields_win_over_settings_and_null_leaves_them_out(server: Server) -> None:
    extra_body: dict[str, Any] = {
        "temperature": None,
        "max_tokens": None,
        "max_completion_tokens": 9,
        "seed": 5,
        "messages": [],
        "x": None,
    }
    answer_of(server, request=ask_for("Say hello.", max_tokens=7, seed=1), extra_body=extra_body)
    body = server.exchanges[-1].body
    assert len(body.pop("messages")) == 2
    assert body == {"model": MODEL, "stream": False, "max_completion_tokens": 9, "seed": 5, "x": None}


def test_headers_and_a_query_go_with_every_request(server: Server) -> None:
    headers = {"api-key": "${env:KEY}", "X-Team": "books"}
    answer_of(server, base_url=f"{server.base_url}?api-version=1", headers=headers)
    assert [one.path for one in server.exchanges] == ["/v1/models?api-version=1", "/v1/chat/completions?api-version=1"]
    for one in server.exchanges:
        assert (one.headers["api-key"], one.headers["x-team"]) == (KEY, "books")


def test_an_authorization_that_is_written_takes_the_place_of_the_key(server: Server) -> None:
    answer_of(server, api_key=KEY, headers={"authorization": "Basic 123"})
    assert server.exchanges[-1].headers["authorization"] == "Basic 123"


def test_a_literal_header_that_is_a_credential_stays_out_of_errors(server: Server) -> None:
    error = error_of(server, status(403, f"not with {KEY}"), headers={"api-key": KEY})
    assert "<api-key>" in str(error)


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY}\r\n", f" {KEY}\t"])
def test_a_key_loses_the_line_end_of_its_file(server: Server, key: str) -> None:
    engine = OpenAIKind().open(options_for(server, api_key="${env:KEY}"), 0, Secrets({"KEY": key}))

    async def start() -> None:
        await engine.start()
        await engine.close()

    asyncio.run(start())
    assert server.exchanges[-1].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", [KEY + "\u00e9", f"{KEY}\nx", KEY + "\x00"])
def test_a_key_that_no_header_can_carry_is_told_by_its_variable(key: str) -> None:
    for fields in ({"api_key": "${env:MY_KEY}"}, {"headers": {"api-key": "${env:MY_KEY}"}}):
        options = OpenAIOptions.model_validate({"model": "m", "base_url": "http://a/v1", **fields})
        with pytest.raises(ConfigError, match="no header can carry") as caught:
            OpenAIKind().open(options, 0, Secrets({"MY_KEY": key}))
        assert "MY_KEY" in str(caught.value)
        assert KEY not in str(caught.value)


def test_the_end_of_an_answer_ends_it_though_the_connection_stays_open(server: Server) -> None:
    async def leave_open(exchange: Exchange) -> None:
        await exchange.begin_stream()
        for one in (event(True, "whole"), event(True, "", "stop"), USAGE):
            await exchange.send_event(one)
        await exchange.send_raw(b"data: [DONE]\n\n")
        await hang(exchange)

    assert answer_of(server, leave_open, timeout_s=WAIT_S).text == "whole"
    assert server.exchanges[-1].is_abandoned.wait(WAIT_S)


@pytest.mark.parametrize(("piece", "says"), [(b"x" * 65536, "MiB"), (b'{"error": "' + b"y" * 65536, "500")])
def test_an_answer_without_an_end_is_not_read_on(server: Server, piece: bytes, says: str) -> None:
    async def flood(exchange: Exchange) -> None:
        code = b"500 No" if says == "500" else b"200 OK"
        exchange.writer.write(b"HTTP/1.1 " + code + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await exchange.send_raw(piece)

    assert says in error_of(server, flood).what


def test_connections_are_used_again(server: Server) -> None:
    async def use() -> None:
        engine = OpenAIKind().open(options_for(server), 0, Secrets({}))
        await engine.start()
        before = server.num_connections
        for _ in range(5):
            await collect(engine, ask_for("Say hello."))
        assert server.num_connections == before
        await engine.close()

    asyncio.run(use())


def test_an_abort_closes_the_connection(server: Server) -> None:
    async def first_then_silence(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.send_event(event(True, "first"))
        await hang(exchange)

    async def use() -> None:
        engine = OpenAIKind().open(options_for(server), 0, Secrets({}))
        await engine.start()
        server.script.append(first_then_silence)
        generator = engine.generate(ask_for("Say hello.", needs_first_token=True))
        assert (await anext(generator)).text == "first"
        await generator.aclose()
        assert await asyncio.to_thread(server.exchanges[-1].is_abandoned.wait, 5)
        await engine.close()

    asyncio.run(use())


def test_events_may_come_in_any_pieces(server: Server) -> None:
    text = "ü\u2028\x85 end"
    data = b"".join(
        f"{head}{json.dumps(one, ensure_ascii=False)}\r\n\r\n".encode()
        for head, one in (
            (": a comment\r\ndata:", event(True, text)),
            ("data: ", event(True, "", "stop")),
            ("data: ", USAGE),
        )
    )
    answer = answer_of(server, stream(*(data[i : i + 7] for i in range(0, len(data), 7))))
    assert answer.text == text
    assert answer.usage.num_cached_tokens is None


@pytest.mark.parametrize(
    ("behaviour", "kind", "retryable", "retry_after_s"),
    [
        (status(429, {"error": {"message": "slow"}}, Retry_After="7"), EngineOverloaded, True, 7.0),
        (status(503, "busy", Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"), EngineOverloaded, True, 0.0),
        (status(503, "busy", Retry_After="soon"), EngineOverloaded, True, None),
        (status(429, {"error": {"message": "pay", "code": "insufficient_quota"}}), EngineOverloaded, False, None),
        (status(500), EngineUnavailable, True, None),
        (status(502, "<html>"), EngineUnavailable, True, None),
        (status(504), EngineTimeout, True, None),
        (status(401, {"error": {"message": f"wrong key {KEY}"}}), BadResponse, False, None),
        (status(404, {"error": {"message": "no such model"}}), BadResponse, False, None),
        (
            status(400, {"object": "error", "message": "bad schema", "type": "BadRequestError"}),
            BadResponse,
            False,
            None,
        ),
        (status(400, {"error": {"message": "x", "code": "context_length_exceeded"}}), PromptTooLong, False, None),
        (
            status(400, {"message": "max_tokens=600 cannot be greater than max_model_len=512"}),
            PromptTooLong,
            False,
            None,
        ),
        (status(200, "{}"), BadResponse, False, None),
        (stream(event(True, "half"), ends=False), EngineUnavailable, True, None),
        (stream(event(True, "half")), BadResponse, True, None),
        (stream(b"data: {nonsense\n\n"), BadResponse, True, None),
        (stream([1]), BadResponse, True, None),
        (stream({"choices": [3]}), BadResponse, True, None),
        (stream({"error": {"message": "out of room", "code": 503}}), EngineOverloaded, True, None),
        (stream(event(True, "x", "content_filter"), USAGE), BadResponse, False, None),
        (stream({"choices": [{"delta": {"refusal": "no"}, "finish_reason": None}]}), BadResponse, False, None),
    ],
)
def test_one_failure_is_one_error_and_no_second_attempt(
    server: Server, behaviour: Behaviour, kind: type[EngineError], retryable: bool, retry_after_s: float | None
) -> None:
    error = error_of(server, behaviour, api_key="${env:KEY}")
    assert (type(error), error.retryable, error.retry_after_s) == (kind, retryable, retry_after_s)
    assert num_posts(server) == 1


def test_a_kept_connection_that_the_server_closed_fails_no_call(server: Server) -> None:
    assert answer_of(server, reset).text
    assert num_posts(server) == 2


def test_a_new_connection_that_breaks_is_a_failure(server: Server) -> None:
    server.script.append(reset)
    error = error_of(server, reset)
    assert (type(error), error.retryable) == (EngineUnavailable, True)
    assert num_posts(server) == 2, "the first of them on the connection of the list of models"


def test_a_key_written_in_the_flow_stays_out_of_errors(server: Server) -> None:
    error = error_of(server, status(403, f"not with {KEY}"), api_key=KEY)
    assert "<api_key>" in str(error)


WRITTEN = "p/ss+w rd=&7"


@pytest.mark.parametrize(
    "spelled", [WRITTEN, "p%2Fss%2bw+rd%3d%267", "p\\/ss+w rd=&7", "p/ss+w rd=&amp;7", "cC9zcyt3IHJkPSY3"]
)
@pytest.mark.parametrize("header", ["X-Api-Key", "Authorization", None])
def test_a_key_written_in_the_flow_is_hidden_in_every_spelling(
    server: Server, spelled: str, header: str | None
) -> None:
    value = f"Bearer {WRITTEN}" if header == "Authorization" else WRITTEN
    options = {"api_key": WRITTEN} if header is None else {"headers": {header: value}}
    error = error_of(server, status(403, f"not with <{spelled}>"), **options)
    assert error.what == f"the server answered 403: not with <<{header or 'api_key'}>>"


def test_what_an_address_holds_of_secrets_is_not_shown() -> None:
    url = "http://user:p%40ssword@127.0.0.1:9/v1?api-%5Ckey=in-the-query&api-version=1"
    connection = Connection(OpenAIOptions(model="m", base_url=url), url, Secrets({}))
    assert connection.shown_url == "http://user:<password>@127.0.0.1:9/v1?api-%5Ckey=<api-\\key>&api-version=1"


@pytest.mark.parametrize("number", [201, 206])
def test_any_status_of_success_brings_an_answer(server: Server, number: int) -> None:
    whole = {"choices": [{"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}]}
    assert answer_of(server, status(number, whole)).text == "hello"


@pytest.mark.parametrize("api_key", ["${env:KEY}", KEY])
def test_no_part_of_a_key_is_left_where_a_message_is_cut(server: Server, api_key: str) -> None:
    for num_before in range(955, 980):
        error = error_of(server, status(400, "x" * num_before + KEY + "y" * 400), api_key=api_key)
        assert KEY[:5] not in str(error)


def test_silence_is_a_timeout(server: Server) -> None:
    error = error_of(server, hang, timeout_s=0.05)
    assert (type(error), error.retryable) == (EngineTimeout, True)


@pytest.mark.parametrize(
    "behaviour",
    [
        *(status(number, {"error": "not for you"}) for number in (400, 403, 404, 405, 429, 500, 501, 503)),
        status(200, {"object": "list", "data": None}),
        status(200, {"data": [{"id": f"models/{MODEL}"}]}),
        status(200, {"data": [{"id": f"{MODEL}:latest"}]}),
        status(200, [{"id": MODEL}]),
        status(200, {"data": [3, {"id": 4}, {"id": MODEL, "max_model_len": "many"}]}),
        status(200, {"data": [{"id": "another"}]}),
    ],
)
def test_a_list_that_does_not_rule_the_model_out_stops_nothing(server: Server, behaviour: Behaviour) -> None:
    server.script.append(behaviour)
    asyncio.run(start_and_close(options_for(server)))


def test_a_model_that_is_not_listed_is_told_when_the_server_has_none(server: Server) -> None:
    async def use() -> None:
        engine = OpenAIKind().open(options_for(server, model="servd"), 0, Secrets({}))
        await engine.start()
        server.script.append(status(404, {"error": {"message": "no such model"}}))
        with pytest.raises(BadResponse, match="did you mean 'served'"):
            await collect(engine, ask_for("Say hello."))
        await engine.close()

    asyncio.run(use())


@pytest.mark.parametrize(
    ("behaviour", "kind", "says"),
    [
        (status(401), ConfigError, "api_key"),
        (status(200, "<html>"), ConfigError, "/v1"),
        (status(200, {"data": [{"id": "servd", "owned_by": "vllm"}]}), ConfigError, "did you mean 'servd'?"),
        (status(308, "", Location="https://elsewhere/v1/models"), ConfigError, "https://elsewhere/v1/models"),
        (reset, EngineUnavailable, "base_url"),
    ],
)
def test_what_start_refuses(server: Server, behaviour: Behaviour, kind: type[Exception], says: str) -> None:
    server.script.append(behaviour)
    with pytest.raises(kind) as caught:
        asyncio.run(start_and_close(options_for(server)))
    assert says in str(caught.value)


def test_nobody_there(unused_port: int) -> None:
    with pytest.raises(EngineUnavailable, match="no server answers"):
        asyncio.run(start_and_close(OpenAIOptions(model="m", base_url=f"http://127.0.0.1:{unused_port}/v1")))


@pytest.mark.parametrize("base_url", ["localhost:8000/v1", "ftp://localhost/v1"])
def test_no_address(base_url: str) -> None:
    with pytest.raises(ConfigError, match="not an address"):
        asyncio.run(start_and_close(OpenAIOptions(model="m", base_url=base_url)))


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


async def start_and_close(options: OpenAIOptions) -> None:
    engine: OpenAIEngine = OpenAIKind().open(options, 0, Secrets({}))
    try:
        await engine.start()
    finally:
        await engine.close()


def test_every_base_url_is_a_replica() -> None:
    kind, options = OpenAIKind(), OpenAIOptions(model="m", base_url=("http://a/v1", "http://b/v1"))
    assert kind.num_replicas(options) == 2
    assert OpenAIOptions.model_validate(options.model_dump(mode="json")) == options, "a plan holds them like this"
    with pytest.raises(ValidationError, match="replicas"):
        OpenAIOptions(model="m", base_url="http://a/v1", replicas=2)


def test_identity_has_no_address_and_no_key() -> None:
    kind = OpenAIKind()
    one = OpenAIOptions(model="m", base_url="http://a/v1", api_key=KEY, timeout_s=5)
    other = OpenAIOptions(model="m", base_url=("http://b/v1", "http://c/v1"))
    assert kind.identity(one) == kind.identity(other)
    assert kind.identity(one) != kind.identity(
        OpenAIOptions(model="m", base_url="http://a/v1", extra_body={"top_k": 1})
    )


def test_the_schema_goes_out_as_it_is(server: Server) -> None:
    answer_of(server, request=ask_for("Judge.", json_schema=SCHEMA))
    assert server.exchanges[-1].body["response_format"]["json_schema"]["schema"] == json.loads(SCHEMA)
