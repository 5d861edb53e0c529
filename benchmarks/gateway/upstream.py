"""A server of the OpenAI protocol that computes nothing: each answer is scripted, and comes after a scripted delay.

Owns the answers and their times. It is one process with one loop, and speaks HTTP with no framework, so that it is no
bottleneck: `python -m gateway.upstream`, with `benchmarks` on the path, prints its port.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

import httptools

from gateway.delays import NUM_CHUNKS, Delays, add_delay_arguments, number_of, of_arguments

MODEL = "scripted"
USAGE = {"prompt_tokens": 100, "completion_tokens": NUM_CHUNKS, "total_tokens": 100 + NUM_CHUNKS}
_MODELS = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 1, "owned_by": "x"}]})


def whole_answer() -> bytes:
    """Return the answer that is no stream."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "word " * NUM_CHUNKS}, "finish_reason": "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL}
    return _response(json.dumps({**head, "choices": [choice], "usage": USAGE}).encode())


def stream_pieces() -> list[bytes]:
    """Return the pieces of a stream as they are sent, one event in each: NUM_CHUNKS of text, and the end."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "word "}]
    deltas += [{"content": "word "}] * (NUM_CHUNKS - 1)
    events = [_event([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
    last = _event([{"index": 0, "delta": {}, "finish_reason": "stop"}]) + _event([], usage=USAGE) + b"data: [DONE]\n\n"
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    framed = [b"%x\r\n%s\r\n" % (len(event), event) for event in (*events, last)]
    return [head + framed[0], *framed[1:-1], framed[-1] + b"0\r\n\r\n"]


def _event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return f"data: {json.dumps({**head, 'choices': choices, **more})}\n\n".encode()


def _response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


class Script:
    """The answers with their times. `num_asked` counts requests for answers; `GET /asked` tells it."""

    def __init__(self, delays: Delays) -> None:
        self.delays = delays
        self.whole = whole_answer()
        self.pieces = stream_pieces()
        self.num_asked = 0
        self._parts = delays.parts()

    def part(self, body: bytes) -> float:
        """Return the delays of a request as a part of their mean. One without a number has the place at which it
        came."""
        number = number_of(body)
        return self._parts[(self.num_asked if number is None else number) % len(self._parts)]


class Connection(asyncio.Protocol):
    """One connection; its requests come one after another."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._body = self._url = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body = self._url = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        """Answer the request that is whole."""
        script = self._script
        if self._parser.get_method() != b"POST":
            self._write(_response(str(script.num_asked).encode() if self._url == b"/asked" else _MODELS.encode()))
            return
        script.num_asked += 1
        part, delays, now_s = script.part(self._body), script.delays, self._loop.time()
        if json.loads(self._body).get("stream"):
            at_s = now_s + delays.first_s * part
            self._loop.call_at(at_s, self._send_piece, 0, at_s, delays.gap_s * part)
        else:
            self._loop.call_at(now_s + delays.whole_s * part, self._write, script.whole)

    def _send_piece(self, number: int, at_s: float, gap_s: float) -> None:
        """Send a piece. The times of the next ones do not depend on when this one is sent, but on when it should be."""
        pieces = self._script.pieces
        self._write(pieces[number])
        if self._transport is not None and number + 1 < len(pieces):
            self._loop.call_at(at_s + gap_s, self._send_piece, number + 1, at_s + gap_s, gap_s)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def listen(script: Script, port: int = 0) -> tuple[asyncio.Server, int]:
    """Return a server on a port of loopback, 0 for a free one, and the port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(script), "127.0.0.1", port, backlog=2048)
    return server, server.sockets[0].getsockname()[1]


async def _serve(script: Script, port: int) -> None:
    server, port = await listen(script, port)
    print(port, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(description=__doc__)
    add_delay_arguments(_parser)
    _parser.add_argument("--port", type=int, default=0)
    _given = _parser.parse_args()
    asyncio.run(_serve(Script(of_arguments(_given)), _given.port))
