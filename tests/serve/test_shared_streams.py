"""Streams at the doors of models: equal greedy ones are made once, as whole answers are, and all others pass as they
come."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import permutations
from pathlib import Path
from typing import Any

import openai
import pytest

from sundog.ir.logical import EngineBlock
from sundog.ledger.ledger import SpendingScope
from sundog.live.shared_answers import SharedAnswers
from tests.engines.server import Exchange, Server, running_server
from tests.serve.asking import ask
from tests.serve.running import Running, running
from tests.waiting import until

MODEL = "served"
HELLO: Any = [{"role": "user", "content": "hello"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": PARAMETERS}}
CHAT = "/v1/chat/completions"
USAGE: Any = {"include_usage": True}
WAIT_S = 10.0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Running]:
    with running(tmp_path / "own", engines=[EngineBlock("one", "null", {"model": MODEL})]) as server:
        yield server


@pytest.fixture
def behind(own: Running, tmp_path: Path) -> Iterator[Running]:
    """A gateway whose engine is a server: another gateway."""
    block = EngineBlock("front", "openai", {"model": MODEL, "base_url": f"{own.address}/v1"})
    with running(tmp_path / "behind", engines=[block]) as server:
        yield server


@pytest.fixture
def upstream() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def gateway(upstream: Server, tmp_path: Path) -> Iterator[Running]:
    """A gateway before a server that does what a test wants."""
    block = EngineBlock("front", "openai", {"model": MODEL, "base_url": upstream.base_url})
    with running(tmp_path / "gateway", engines=[block]) as server:
        yield server


def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0)


def chat_whole(server: Running) -> tuple[Any, ...]:
    with client(server) as one:
        answer = one.chat.completions.create(model=MODEL, messages=HELLO, temperature=0)
    (choice,) = answer.choices
    return choice.message.role, choice.message.content, choice.finish_reason, answer.usage and answer.usage.to_dict()


def chat_stream(server: Running) -> tuple[Any, ...]:
    with client(server) as one:
        asked: Any = {"model": MODEL, "messages": HELLO, "temperature": 0}
        with one.chat.completions.stream(**asked, stream_options=USAGE) as stream:
            answer = stream.get_final_completion()
    (choice,) = answer.choices
    return choice.message.role, choice.message.content, choice.finish_reason, answer.usage and answer.usage.to_dict()


def chat_stream_without_tokens(server: Running) -> tuple[Any, ...]:
    with client(server) as one:
        chunks = list(one.chat.completions.create(model=MODEL, messages=HELLO, temperature=0, stream=True))
    assert all(chunk.choices and "usage" not in chunk.model_fields_set for chunk in chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    return chunks[0].choices[0].delta.role, text, chunks[-1].choices[0].finish_reason


def completion_whole(server: Running) -> tuple[Any, ...]:
    with client(server) as one:
        answer = one.completions.create(model=MODEL, prompt="hello", temperature=0)
    return answer.choices[0].text, answer.choices[0].finish_reason, answer.usage and answer.usage.to_dict()


def completion_stream(server: Running) -> tuple[Any, ...]:
    with client(server) as one:
        asked: Any = {"model": MODEL, "prompt": "hello", "temperature": 0}
        *chunks, last = one.completions.create(**asked, stream=True, stream_options=USAGE)
    text = "".join(chunk.choices[0].text for chunk in chunks)
    assert last.choices == []
    return text, chunks[-1].choices[0].finish_reason, last.usage and last.usage.to_dict()


def responses_whole(server: Running) -> tuple[Any, ...]:
    with client(server) as one:
        answer = one.responses.create(model=MODEL, input="hello", temperature=0)
    return answer.output_text, answer.status, answer.usage and answer.usage.to_dict()


def responses_stream(server: Running) -> tuple[Any, ...]:
    with client(server) as one:
        with one.responses.stream(model=MODEL, input="hello", temperature=0) as stream:
            kinds = [event.type for event in stream]
            answer = stream.get_final_response()
        assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
        assert one.responses.retrieve(answer.id).output_text == answer.output_text
    return answer.output_text, answer.status, answer.usage and answer.usage.to_dict()


def tool_call(server: Running) -> tuple[Any, ...]:
    with client(server) as one:
        answer = one.chat.completions.create(
            model=MODEL, messages=HELLO, temperature=0, tools=[TOOL], tool_choice="required"
        )
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    (call,) = calls
    assert call.type == "function"
    return call.id, call.function.name, call.function.arguments, answer.choices[0].finish_reason


def tool_call_stream(server: Running) -> tuple[Any, ...]:
    with client(server) as one:
        asked: Any = {"model": MODEL, "messages": HELLO, "tools": [TOOL], "tool_choice": "required"}
        with one.chat.completions.stream(**asked, temperature=0) as stream:
            answer = stream.get_final_completion()
    calls = answer.choices[0].message.tool_calls
    assert calls is not None
    (call,) = calls
    return call.id, call.function.name, call.function.arguments, answer.choices[0].finish_reason


def message(server: Running, *, is_streamed: bool) -> tuple[Any, ...]:
    anthropic = pytest.importorskip("anthropic", reason="the client is not installed: pip install anthropic")
    asked: Any = {"model": MODEL, "max_tokens": 50, "messages": HELLO, "extra_body": {"temperature": 0}}
    with anthropic.Anthropic(base_url=server.address, api_key="none", max_retries=0) as one:
        if not is_streamed:
            answer = one.messages.create(**asked)
        else:
            with one.messages.stream(**asked) as stream:
                answer = stream.get_final_message()
    return answer.content[0].text, answer.stop_reason, answer.usage.input_tokens, answer.usage.output_tokens


def message_whole(server: Running) -> tuple[Any, ...]:
    return message(server, is_streamed=False)


def message_stream(server: Running) -> tuple[Any, ...]:
    return message(server, is_streamed=True)


PAIRS = [
    (chat_whole, chat_stream),
    (completion_whole, completion_stream),
    (responses_whole, responses_stream),
    (tool_call, tool_call_stream),
    (message_whole, message_stream),
]


def num_made(server: Running) -> int:
    (engine,) = server.serving.host.engines.engines.values()
    return engine.stats().num_requests


@pytest.mark.parametrize("kind", ["own", "behind"])
@pytest.mark.parametrize("asks", [order for pair in PAIRS for order in permutations(pair)])
def test_a_stream_and_a_whole_answer_are_one(
    kind: str, asks: tuple[Callable[[Running], Any], ...], request: pytest.FixtureRequest
) -> None:
    server: Running = request.getfixturevalue(kind)
    first, second, third = asks[0](server), asks[1](server), asks[0](server)
    assert first == second == third
    assert (num_made(server), server.serving.host.shared.num_reused) == (1, 2)
    status = ask(server.address, "GET", "/v1/status").body
    assert status["gateway"]["num_reused"] == 2


@pytest.mark.parametrize("kind", ["own", "behind"])
def test_forms_of_a_chat_share_their_streams(kind: str, request: pytest.FixtureRequest) -> None:
    server: Running = request.getfixturevalue(kind)
    role, text, reason, usage = chat_stream(server)
    assert chat_stream_without_tokens(server) == (role, text, reason)
    assert responses_stream(server)[0] == text
    assert usage["total_tokens"] > 0
    assert num_made(server) == 1


@pytest.mark.parametrize("kind", ["own", "behind"])
@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize(("path", "asked"), [(CHAT, {"messages": HELLO}), ("/v1/completions", {"prompt": "hello"})])
def test_chunks_name_tokens_only_to_those_who_ask(
    kind: str, temperature: float, path: str, asked: Any, request: pytest.FixtureRequest
) -> None:
    server: Running = request.getfixturevalue(kind)
    body = {"model": MODEL, "temperature": temperature, "stream": True, **asked}
    assert '"usage"' not in ask(server.address, "POST", path, body, as_text=True).body
    told = ask(server.address, "POST", path, {**body, "stream_options": USAGE}, as_text=True).body
    assert '"usage":null' in told
    assert '"usage":{' in told


class Held:
    """This class has a server begin a stream, and end it when it may."""

    def __init__(self) -> None:
        self.may_end = threading.Event()

    async def answer(self, exchange: Exchange) -> None:
        await exchange.begin_stream()
        head = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "x_new": 1}
        await exchange.send_event({**head, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]})
        while not self.may_end.is_set():  # noqa: ASYNC110 - an event of another thread
            await asyncio.sleep(0.005)
        await exchange.send_event({**head, "choices": [{"index": 0, "delta": {"content": "b"}}]})
        await exchange.send_event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if exchange.body.get("stream_options"):
            usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
            await exchange.send_event({**head, "choices": [], "usage": usage})
        await exchange.end_stream()


def streamed(server: Running, stack: ExitStack, **more: Any) -> Iterator[Any]:
    """Ask for a stream, and return its chunks once the first one is there."""
    one = stack.enter_context(client(server))
    asked: Any = {"model": MODEL, "messages": HELLO, "temperature": 0, "stream": True, **more}
    stream = one.chat.completions.create(**asked)
    stack.callback(stream.close)
    return iter(stream)


def test_equal_streams_come_as_one_does(gateway: Running, upstream: Server) -> None:
    held = Held()
    upstream.script.append(held.answer)
    with ExitStack() as stack:
        streams = [streamed(gateway, stack), streamed(gateway, stack, stream_options=USAGE)]
        firsts = [next(one) for one in streams]
        assert [one.choices[0].delta.content for one in firsts] == ["a", "a"], "before the server has said more"
        held.may_end.set()
        rest, rest_with_tokens = map(list, streams)
        assert [one.choices[0].delta.content for one in rest] == ["b", None]
        assert rest_with_tokens[-1].usage.total_tokens == 5
        assert {one.id for one in (*rest, *rest_with_tokens)} == {"chatcmpl-7"}
        assert rest[0].model_extra == {"x_new": 1}, "unknown fields pass"
    assert num_made(gateway) == 1
    assert chat_whole(gateway)[1] == "ab"
    assert num_made(gateway) == 1


def test_a_client_that_leaves_harms_nobody_who_follows(gateway: Running, upstream: Server) -> None:
    held = Held()
    upstream.script.append(held.answer)
    with ExitStack() as stack:
        with ExitStack() as leaving:
            next(streamed(gateway, leaving))
            following = streamed(gateway, stack)
            next(following)
        held.may_end.set()
        assert "".join(one.choices[0].delta.content or "" for one in following) == "b"
    assert num_made(gateway) == 1

    upstream.script.append(Held().answer)
    with ExitStack() as leaving:
        next(streamed(gateway, leaving, seed=2))
    assert upstream.exchanges[-1].is_abandoned.wait(WAIT_S), "nobody wants it any more"


def test_whoever_came_first_pays_to_the_end_though_it_has_left(gateway: Running, upstream: Server) -> None:
    held, host = Held(), gateway.serving.host
    upstream.script.append(held.answer)
    with ExitStack() as stack:
        with ExitStack() as leaving:
            next(streamed(gateway, leaving, max_tokens=10, extra_headers={"x-sundog-max-tokens": "1000"}))
            following = streamed(gateway, stack, max_tokens=10)
            next(following)
        (stream,) = host.shared._streams.values()
        until(lambda: stream._num_readers == 1)
        (payer,) = host.accounts._paying
        assert host.accounts.spending.reserved(payer).num_tokens > 0
        held.may_end.set()
        assert list(following)
    until(lambda: not host.accounts._paying)


def test_nobody_waits_for_an_equal_call_of_a_lower_tier(gateway: Running, upstream: Server) -> None:
    held = Held()
    upstream.script.append(held.answer)
    with ExitStack() as stack:
        behind = streamed(gateway, stack, service_tier="flex")
        next(behind)
        assert chat_stream_without_tokens(gateway)[2] == "stop", "before the other one has ended"
        held.may_end.set()
        assert "".join(one.choices[0].delta.content or "" for one in behind) == "b"
    assert num_made(gateway) == 2


async def linger(exchange: Exchange) -> None:
    await exchange.begin_stream()
    await exchange.send_event({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]})
    await exchange.send_raw(b"data: [DONE]\n\n")
    await asyncio.sleep(WAIT_S)


def test_a_server_that_leaves_a_stream_open_holds_up_nobody(gateway: Running, upstream: Server) -> None:
    upstream.script.append(linger)
    with ExitStack() as stack:
        assert [one.choices[0].delta.content for one in streamed(gateway, stack)] == ["a"]
    assert chat_whole(gateway)[1] == "a"
    assert num_made(gateway) == 1
    assert upstream.exchanges[-1].is_abandoned.wait(1.0)


@pytest.mark.parametrize(("path", "end"), [(CHAT, "[DONE]"), ("/v1/messages", "message_stop")])
@pytest.mark.parametrize("temperature", [0, 1])
def test_what_comes_behind_the_end_of_a_stream_is_not_waited_for(
    gateway: Running, upstream: Server, path: str, end: str, temperature: float
) -> None:
    upstream.script.append(linger)
    body = {"model": MODEL, "messages": HELLO, "temperature": temperature, "stream": True, "max_tokens": 9}
    began_s = time.monotonic()
    assert end in ask(gateway.address, "POST", path, body, as_text=True).body
    assert time.monotonic() - began_s < WAIT_S / 2


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("new", [{}, {"audio": {"id": "a"}}], ids=["known", "not known"])
def test_who_leaves_at_the_end_of_a_stream_has_its_answer(
    gateway: Running, upstream: Server, new: dict[str, Any], temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end_late(exchange: Exchange) -> None:
        await exchange.begin_stream()
        delta = {"content": "a", **new}
        await exchange.send_event({"choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]})
        await exchange.send_raw(b"data: [DONE]\n\n")
        await asyncio.sleep(0.05)
        await exchange.send_raw(b"")

    put = gateway.serving.host.store.put

    async def put_late(*args: Any) -> Any:
        await asyncio.sleep(0.1)
        return await put(*args)

    monkeypatch.setattr(gateway.serving.host.store, "put", put_late)
    upstream.script.append(end_late)
    with ExitStack() as stack:
        told = {"x-session-id": "one", "x-sundog-budget": "5", "x-dynamo-session-final": "true"}
        asked = streamed(gateway, stack, extra_headers=told, temperature=temperature)
        # The client closes its connection where the end has been read, and the answer has not ended.
        assert [one.choices[0].delta.content for one in asked] == ["a"]
    program = SpendingScope("program", "/one")
    budgets = gateway.serving.host.budgets
    # Its last request has been answered, so it has ended.
    until(lambda: program not in budgets._budgets)


def test_a_time_that_is_over_is_that_of_its_own_client(gateway: Running, upstream: Server) -> None:
    held = Held()
    upstream.script.append(held.answer)
    with ExitStack() as stack:
        late = streamed(gateway, stack, extra_headers={"x-litellm-timeout": "0.5"})
        next(late)
        following = streamed(gateway, stack)
        next(following)
        with pytest.raises(openai.APIError):
            list(late)
        held.may_end.set()
        assert "".join(one.choices[0].delta.content or "" for one in following) == "b"
    assert num_made(gateway) == 1


@pytest.mark.parametrize(
    "more", [{"temperature": 1}, {"n": 2}, {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}]
)
def test_a_stream_that_is_its_own_passes_byte_by_byte(gateway: Running, upstream: Server, more: Any) -> None:
    sent = b'data: {"x":1,  "choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

    async def answer(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.send_raw(sent)
        await exchange.send_raw(b"")

    for _ in range(2):
        upstream.script.append(answer)
        body = {"model": MODEL, "messages": HELLO, "temperature": 0, "stream": True, **more}
        assert ask(gateway.address, "POST", CHAT, body, as_text=True).body.encode() == sent
    assert num_made(gateway) == 2


def test_a_stream_that_breaks_off_is_not_kept(gateway: Running, upstream: Server) -> None:
    async def broken(exchange: Exchange) -> None:
        await exchange.begin_stream()
        await exchange.send_event({"choices": [{"index": 0, "delta": {"content": "a"}}]})
        exchange.writer.transport.abort()

    upstream.script.append(broken)
    body = {"model": MODEL, "messages": HELLO, "temperature": 0, "stream": True}
    heard = ask(gateway.address, "POST", CHAT, body, as_text=True).body
    assert '"error"' in heard
    assert '"error"' not in ask(gateway.address, "POST", CHAT, body, as_text=True).body
    assert num_made(gateway) == 2


def test_what_a_server_refuses_is_told_with_its_status(gateway: Running, upstream: Server) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.send(400, json.dumps({"error": {"message": "seed: too odd", "type": "bad"}}))

    upstream.script.append(refuse)
    with closing(client(gateway)) as one, pytest.raises(openai.BadRequestError, match="too odd"):
        one.chat.completions.create(model=MODEL, messages=HELLO, temperature=0, seed=1, stream=True)


@pytest.mark.parametrize("is_streamed", [True, False])
def test_what_is_wrong_of_one_request_alone_is_told_to_no_other(
    gateway: Running, upstream: Server, is_streamed: bool
) -> None:
    may_refuse = threading.Event()

    async def refuse(exchange: Exchange) -> None:
        while not may_refuse.is_set():  # noqa: ASYNC110 - an event of another thread
            await asyncio.sleep(0.005)
        await exchange.send(400, json.dumps({"error": {"message": "metadata: too odd", "type": "bad"}}))

    async def answer(exchange: Exchange) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
        await exchange.send(200, json.dumps({"choices": [choice]}))

    upstream.script += [refuse] if is_streamed else [refuse, answer]
    body = {"model": MODEL, "messages": HELLO, "temperature": 0, "stream": is_streamed}
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(ask, gateway.address, "POST", CHAT, {**body, "metadata": {"odd": "1"}}, as_text=True)
        until(lambda: num_made(gateway) == 1)
        second = threads.submit(ask, gateway.address, "POST", CHAT, body, as_text=True)
        shared = gateway.serving.host.shared
        until(lambda: _num_joined(shared) == (2 if is_streamed else 1))
        may_refuse.set()
        assert (first.result().status, second.result().status) == (400, 200)
    assert num_made(gateway) == 2


def _num_joined(shared: SharedAnswers) -> int:
    return sum(one._num_readers for one in shared._streams.values()) + sum(
        one._future is not None for one in shared._in_flight._leaders.values()
    )
