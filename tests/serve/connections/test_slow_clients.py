"""Clients that are slow, greedy or too many: they are let go, and hold no place of an engine."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import repeat

import pytest

from sundog.ir.logical import EngineBlock
from sundog.serve.connections.limits import ConnectionLimits
from tests.serve.asking import Heard, ask
from tests.serve.connections.raw import all_of, connected, head, refusal, whole
from tests.serve.running import Running, running

CHAT = "/v1/chat/completions"
MAX_CONNECTIONS = 4
LIMITS = ConnectionLimits(
    max_connections=MAX_CONNECTIONS, max_header_bytes=2048, max_slow_s=0.4, min_bytes_per_s=1000, max_linger_s=0.4
)
LONG = {"model": "long", "stream": True, "messages": [{"role": "user", "content": "Say much."}]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with an engine that has one place, and whose answers no buffer of a connection holds."""
    block = EngineBlock("long", "null", {"output_tokens": 4_000_000, "max_concurrency": 1})
    thinking = EngineBlock("thinking", "null", {"latency_s": 3 * LIMITS.max_slow_s})
    with running(tmp_path_factory.mktemp("slow"), engines=[block, thinking], limits=LIMITS) as one:
        yield one


def is_answered(server: Running) -> Heard:
    """Ask the engine with the one place for something short."""
    return ask(server.address, "POST", CHAT, {**LONG, "stream": False, "max_tokens": 1, "temperature": 1})


def flood(sender: socket.socket) -> None:
    while True:
        sender.sendall(b" " * 65536)


def test_a_reader_that_reads_nothing_loses_its_place(server: Running) -> None:
    with connected(server.address) as reader:
        reader.sendall(whole(CHAT, LONG))
        assert reader.recv(15) == b"HTTP/1.1 200 OK"
        assert is_answered(server).status == 200, "the place is free, though the reader is still there"
        assert not all_of(reader).rstrip().endswith(b"data: [DONE]")


def test_a_reader_that_takes_its_time_gets_all(server: Running) -> None:
    with connected(server.address) as reader:
        reader.sendall(whole(CHAT, LONG))
        pieces: list[bytes] = []
        while not b"".join(pieces[-2:]).endswith(b"\r\n0\r\n\r\n"):
            pieces.append(reader.recv(65536))
        assert sum(map(len, pieces)) > 16_000_000


@pytest.mark.parametrize("is_streamed", [False, True])
def test_who_waits_for_a_model_that_thinks_for_long_gets_its_answer(server: Running, is_streamed: bool) -> None:
    heard = ask(server.address, "POST", CHAT, {**LONG, "model": "thinking", "stream": is_streamed}, as_text=is_streamed)
    assert heard.status == 200
    assert "[DONE]" in heard.body if is_streamed else heard.body["choices"]


@pytest.mark.parametrize("sent", [b"POST /v1/chat", head(CHAT, 100), head(CHAT, 100) + b'{"model": '])
def test_a_request_that_does_not_come_whole_is_refused(server: Running, sent: bytes) -> None:
    with connected(server.address) as sender:
        sender.sendall(sent)
        assert refusal(all_of(sender)) == (408, "request_timeout")


def test_blanks_and_silence_keep_no_connection(server: Running) -> None:
    for sent in (b"", b"\r\n"):
        with connected(server.address) as sender:
            sender.sendall(sent)
            assert all_of(sender) == b""
    with connected(server.address) as sender:
        sender.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        sender.recv(65536)
        sender.sendall(b"\r\n")
        assert all_of(sender) == b""


def test_a_body_that_comes_byte_by_byte_is_refused(server: Running) -> None:
    with connected(server.address) as sender:
        sender.settimeout(0.02)
        sender.sendall(head(CHAT, 10_000))
        answer = b""
        for byte in repeat(b" "):
            try:
                sender.sendall(byte)
                answer = sender.recv(65536)
                break
            except TimeoutError:
                continue
        assert refusal(answer) == (408, "request_timeout")


def test_a_body_that_nobody_wants_is_not_read_to_its_end(server: Running) -> None:
    with connected(server.address) as sender:
        sender.sendall(head(CHAT, 2**40))
        assert sender.recv(65536).startswith(b"HTTP/1.1 413 ")
        with pytest.raises(ConnectionError):
            flood(sender)


def test_a_head_that_is_too_large_is_refused(server: Running) -> None:
    small, large = "x-small: " + "s" * 1000, "x-large: " + "l" * 3000
    assert ask(server.address, "GET", "/health", headers={"x-small": "s" * 1000}).status == 200
    for sent in (head(CHAT, 2, small, large) + b"{}", b"GET /" + b"a" * 3000, b"GET / HTTP/1.1\r\n" + large.encode()):
        with connected(server.address) as sender:
            sender.sendall(sent)
            assert refusal(all_of(sender)) == (431, "headers_too_large")


def test_errors_at_the_door_of_messages_have_its_form(server: Running) -> None:
    large = "x-large: " + "l" * 3000
    for path in ("/v1/messages", "/s/agent/v1/messages/count_tokens?beta=true", "/v1/%6dessages"):
        late, too_large = head(path, 100) + b"{", head(path, 2, large) + b"{}"
        for sent, status in ((late, 408), (too_large, 431), (too_large.removesuffix(b"\r\n\r\n{}"), 431)):
            with connected(server.address) as sender:
                sender.sendall(sent)
                told, _, body = all_of(sender).partition(b"\r\n\r\n")
            assert int(told.split()[1]) == status
            assert (json.loads(body)["type"], json.loads(body)["error"]["type"]) == ("error", "invalid_request_error")
    with connected(server.address) as sender:
        sender.sendall(b"POST /v1/messages")
        assert refusal(all_of(sender)) == (408, "request_timeout"), "the path may go on"


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_refusals_at_the_door_of_messages_have_its_form(server: Running, path: str) -> None:
    for method, body, status in (("POST", b"{", 400), ("DELETE", None, 405)):
        heard = ask(server.address, method, path, body)
        assert (heard.status, heard.body["type"]) == (status, "error")


def test_what_is_no_http_is_told_so(server: Running) -> None:
    with connected(server.address) as sender:
        sender.sendall(b"hello\r\n\r\n")
        assert refusal(all_of(sender)) == (400, "invalid_http")


def test_headers_behind_a_body_are_not_kept(server: Running) -> None:
    chunked = b"POST /health HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-behind: b\r\n\r\n"
    with connected(server.address) as sender:
        sender.sendall(chunked + b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        answer = all_of(sender)
        assert answer.startswith(b"HTTP/1.1 405 ")
        assert b"HTTP/1.1 200 OK" in answer


def test_connections_beyond_the_limit_are_told_so(server: Running) -> None:
    with ExitStack() as stack:
        kept: list[socket.socket] = [stack.enter_context(connected(server.address)) for _ in range(MAX_CONNECTIONS)]
        for one in kept:
            one.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert one.recv(65536).startswith(b"HTTP/1.1 200 OK")
        refused = ask(server.address, "GET", "/health")
        assert (refused.status, refused.body["error"]["code"]) == (503, "too_many_connections")
        assert (refused.headers["connection"], refused.headers["retry-after"]) == ("close", "1")
        kept[0].close()
        assert ask(server.address, "GET", "/health").status == 200
