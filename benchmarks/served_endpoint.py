"""A server of the OpenAI protocol that costs as little as possible: `python served_endpoint.py DELAY_S`.

It answers each request after DELAY_S with as many tokens as `max_tokens` says, whole or streamed, and prints its port.
GET /v1/stats tells the most requests that were in flight since it was last asked.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.request import urlopen

MODEL = "served"
_MAX_TOKENS = re.compile(rb'"max_tokens": ?(\d+)')
_STREAMED = re.compile(rb'"stream": ?true')


@contextmanager
def running_endpoint(delay_s: float) -> Iterator[str]:
    """The base URL of an endpoint in a process of its own."""
    command = [sys.executable, str(Path(__file__)), str(delay_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None, "it was asked for"
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        finally:
            server.terminate()


def most_in_flight(base_url: str) -> int:
    """Since it was last asked."""
    with urlopen(f"{base_url}/stats") as answer:
        return int(json.load(answer)["most_in_flight"])


@cache
def whole(num_tokens: int) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": " word" * num_tokens}, "finish_reason": "stop"}
    return as_json({"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage(num_tokens)})


@cache
def streamed(num_tokens: int) -> bytes:
    deltas = [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}] * num_tokens
    choices = [[delta] for delta in (*deltas, {"index": 0, "delta": {}, "finish_reason": "stop"})]
    events = [{"id": "c", "object": "chat.completion.chunk", "choices": one} for one in choices]
    lines = [json.dumps(one) for one in (*events, {"choices": [], "usage": usage(num_tokens)})] + ["[DONE]"]
    pieces = (f"data: {line}\n\n".encode() for line in lines)
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + body


def usage(num_tokens: int) -> dict[str, int]:
    return {"prompt_tokens": 50, "completion_tokens": num_tokens, "total_tokens": 50 + num_tokens}


def as_json(value: object) -> bytes:
    body = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class Endpoint:
    """The state that all connections share."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.num_in_flight = 0
        self.most_in_flight = 0


class Connection(asyncio.Protocol):
    """One connection, by hand: a server of a framework would be slower than its clients."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        _, _, length = head.lower().partition(b"content-length:")
        num_bytes = int(length.split(b"\r\n", 1)[0]) if length else 0
        if len(rest) >= num_bytes:
            self._received = rest[num_bytes:]
            self._answer(head, rest[:num_bytes])

    def _answer(self, head: bytes, body: bytes) -> None:
        endpoint = self._endpoint
        if head.startswith(b"GET /v1/stats"):
            self._transport.write(as_json({"most_in_flight": endpoint.most_in_flight}))
            endpoint.most_in_flight = 0
        elif head.startswith(b"GET"):
            self._transport.write(as_json({"data": [{"id": MODEL}]}))
        else:
            endpoint.num_in_flight += 1
            endpoint.most_in_flight = max(endpoint.most_in_flight, endpoint.num_in_flight)
            asked = _MAX_TOKENS.search(body)
            answer = streamed if _STREAMED.search(body) else whole
            asyncio.get_running_loop().call_later(endpoint.delay_s, self._send, answer(int(asked[1]) if asked else 16))

    def _send(self, answer: bytes) -> None:
        self._endpoint.num_in_flight -= 1
        self._transport.write(answer)


async def serve(delay_s: float) -> None:
    endpoint = Endpoint(delay_s)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(endpoint), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
