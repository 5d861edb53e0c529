"""The bodies of all requests together: what has no room is refused, and the room is free again when requests end."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest

from sundog.ir.logical import EngineBlock
from sundog.serve.connections.limits import ConnectionLimits
from tests.serve.asking import Heard, ask
from tests.serve.connections.raw import all_of, connected, head
from tests.serve.running import Running, running
from tests.waiting import until

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
MAX_BYTES = 100_000
LIMITS = ConnectionLimits(max_bodies_bytes=MAX_BYTES)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    engines = [EngineBlock("quick", "null", {}), EngineBlock("slow", "null", {"latency_s": 0.5})]
    with running(tmp_path_factory.mktemp("held"), engines=engines, limits=LIMITS) as one:
        yield one


def body(num_bytes: int, model: str = "quick") -> dict[str, Any]:
    text = "x" * num_bytes
    return {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": text}]}


def is_refused(heard: Heard) -> bool:
    assert heard.status in (200, 503, 529), heard
    if heard.status == 200:
        return False
    assert heard.headers["retry-after"] == "1"
    error = heard.body["error"]
    assert error["type"] == "overloaded_error" if heard.status == 529 else error["code"] == "overloaded"
    return True


def test_bodies_that_are_not_whole_count(server: Running) -> None:
    with ExitStack() as stack:
        sender = stack.enter_context(connected(server.address))
        sender.sendall(head(CHAT, MAX_BYTES) + b" " * (MAX_BYTES - 10_000))
        until(lambda: is_refused(ask(server.address, "POST", CHAT, body(20_000))))
        told = ask(server.address, "POST", MESSAGES, body(20_000))
        assert (told.status, is_refused(told)) == (529, True)
        counted = ask(server.address, "POST", "/v1/messages/count_tokens", body(20_000))
        assert (counted.status, is_refused(counted)) == (529, True)
        assert ask(server.address, "POST", CHAT, body(100)).status == 200, "a small one has room"
    until(lambda: not is_refused(ask(server.address, "POST", CHAT, body(90_000))))


def test_bodies_of_requests_that_are_worked_on_count_until_those_end(server: Running) -> None:
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask, server.address, "POST", CHAT, body(40_000, "slow")) for _ in range(4)]
        assert [is_refused(one.result()) for one in asked].count(True) == 2
    for _ in range(5):
        assert ask(server.address, "POST", CHAT, body(90_000)).status == 200


def test_a_length_that_is_not_told_is_counted_as_it_comes(server: Running) -> None:
    with ExitStack() as stack:
        sender = stack.enter_context(connected(server.address))
        sender.sendall(head(CHAT, MAX_BYTES) + b" " * 60_000)
        until(lambda: is_refused(ask(server.address, "POST", CHAT, body(50_000))))
        chunked = stack.enter_context(connected(server.address))
        lines = [f"POST {CHAT} HTTP/1.1", "host: localhost", "transfer-encoding: chunked", "connection: close", "", ""]
        chunked.sendall("\r\n".join(lines).encode() + b"c350\r\n" + b" " * 50_000 + b"\r\n0\r\n\r\n")
        assert all_of(chunked).startswith(b"HTTP/1.1 503 ")


def test_a_body_that_never_fits_is_told_so(server: Running) -> None:
    assert ask(server.address, "POST", CHAT, body(MAX_BYTES)).status == 413
