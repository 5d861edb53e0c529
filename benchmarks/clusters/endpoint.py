"""A server of the OpenAI protocol that counts what it is asked: `python endpoint.py DELAY_S`.

It answers each chat completion after DELAY_S with a text that only the request's body decides, and takes effects at
POST /effects/ID. GET /counts tells how many requests came, how many of them were different, and the most that came of
one effect. It prints its port.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from urllib.request import Request, urlopen

MODEL = "counted"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


@dataclass(frozen=True, slots=True)
class Counts:
    """The requests that a server has had since it was last told to forget them."""

    num_calls: int
    num_distinct: int
    most_in_flight: int
    #: Effects that came, and the most that came under one name.
    num_effects: int
    most_of_one_effect: int
    #: The longest time between two calls since the gaps are watched.
    longest_gap_s: float


class Endpoint:
    """The address of a running server."""

    def __init__(self, port: int) -> None:
        self.origin = f"http://127.0.0.1:{port}"

    def counts(self) -> Counts:
        with urlopen(f"{self.origin}/counts") as answer:
            return Counts(**json.load(answer))

    def forget(self) -> None:
        """Begin to count anew."""
        urlopen(Request(f"{self.origin}/forget", b"", method="POST")).close()

    def watch_gaps(self) -> None:
        """Look for the longest time without a call from now on."""
        urlopen(Request(f"{self.origin}/gaps", b"", method="POST")).close()


@contextmanager
def counting_endpoint(delay_s: float) -> Iterator[Endpoint]:
    """A server in a process of its own."""
    command = [sys.executable, str(Path(__file__)), str(delay_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None, "it was asked for"
        try:
            yield Endpoint(int(server.stdout.readline()))
        finally:
            server.terminate()


class _Book:
    def __init__(self) -> None:
        self.calls: Counter[bytes] = Counter()
        self.effects: Counter[str] = Counter()
        self.num_in_flight = self.most_in_flight = 0
        self.longest_gap_s = 0.0
        self.last_s = time.monotonic()

    def count(self, key: bytes) -> None:
        self.calls[key] += 1
        now_s = time.monotonic()
        self.longest_gap_s, self.last_s = max(self.longest_gap_s, now_s - self.last_s), now_s

    def told(self) -> bytes:
        counts = Counts(
            self.calls.total(),
            len(self.calls),
            self.most_in_flight,
            self.effects.total(),
            max(self.effects.values(), default=0),
            self.longest_gap_s,
        )
        return json.dumps({name: getattr(counts, name) for name in Counts.__slots__}).encode()


class _Connection(asyncio.Protocol):
    """One connection; one request at a time, as HTTP/1.1 clients send them."""

    def __init__(self, book: _Book, delay_s: float) -> None:
        self._book = book
        self._delay_s = delay_s
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "it is a stream"
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.split(b"\r\n")
        sizes = [int(line.split(b":")[1]) for line in lines[1:] if line.lower().startswith(b"content-length:")]
        size = sizes[0] if sizes else 0
        if len(rest) < size:
            return
        self._data = rest[size:]
        path = lines[0].split(b" ")[1].decode()
        self._serve(path, rest[:size])

    def _serve(self, path: str, body: bytes) -> None:
        book = self._book
        if path == "/counts":
            self._answer(book.told())
        elif path == "/forget":
            book.__init__()  # type: ignore[misc]  # all of it begins anew
            self._answer(b"{}")
        elif path == "/gaps":
            book.longest_gap_s, book.last_s = 0.0, time.monotonic()
            self._answer(b"{}")
        elif path.startswith("/effects/"):
            book.effects[path] += 1
            self._later(json.dumps({"effect": path}).encode())
        elif path.endswith("/models"):
            self._answer(json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}).encode())
        else:
            # What comes with each request beside its messages is the same in all of them.
            key = blake2b(json.dumps(json.loads(body)["messages"]).encode(), digest_size=16).digest()
            book.count(key)
            self._later(_completion(key))

    def _later(self, body: bytes) -> None:
        self._book.num_in_flight += 1
        self._book.most_in_flight = max(self._book.most_in_flight, self._book.num_in_flight)
        asyncio.get_running_loop().call_later(self._delay_s, self._end, body)

    def _end(self, body: bytes) -> None:
        self._book.num_in_flight -= 1
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_HEAD % (len(body), body))


def _completion(key: bytes) -> bytes:
    message = {"role": "assistant", "content": f"the answer {key.hex()}"}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    usage = {"prompt_tokens": 60, "completion_tokens": 12, "total_tokens": 72}
    return json.dumps({"id": "c", "object": "chat.completion", "choices": choices, "usage": usage}).encode()


async def _main(delay_s: float) -> None:
    book = _Book()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(book, delay_s), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(float(sys.argv[1])))
