"""The load of a gateway: so many requests are in flight all the time, each on a connection that is kept.

Owns what is asked and what is measured of the answers. It is one process that does nothing else, and reads only what
ends an answer: `python -m gateway.load URL`, with `benchmarks` on the path, prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from dataclasses import asdict, dataclass, field
from math import ceil
from urllib.parse import urlsplit

import httptools

from gateway.delays import NUM_DELAYS, Delays, add_delay_arguments, of_arguments

CONTENT = "Say a word, and say it again. " * 13
"""About a hundred tokens; each request begins with a number of its own, so that no two are equal, and by which its
delays are known."""

MAX_WAIT_S = 10.0
"""The last answers are waited for so long, and then cut off."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of one load. Times are of answers that are whole, from the moment at which a request is sent."""

    num_answers: int
    #: Answers with another status than 200, connections that broke, and streams without their end.
    num_failures: int
    #: Requests without an answer when the load was cut off.
    num_unanswered: int
    #: From the first request to the last answer.
    seconds: float
    p50_ms: float
    p95_ms: float
    #: To the first piece of the body.
    first_p50_ms: float
    first_p95_ms: float
    #: The times beyond the delays of each answer, which say what all on the way to the server and back has taken.
    late_p50_ms: float
    late_p95_ms: float
    late_first_p50_ms: float
    #: The seconds are those of the process that asks.
    cpu_s: float


@dataclass(slots=True)
class Tally:
    """The answers so far."""

    whole_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    late_first_s: list[float] = field(default_factory=list)
    num_failures: int = 0


@dataclass(frozen=True, slots=True)
class NumberedRequest:
    """One request that is to be sent. Its delays: of the first piece of the answer, and of all of it."""

    data: bytes
    first_s: float
    whole_s: float


def requests_of(
    host: str, path: str, model: str, count: int, delays: Delays, *, is_streamed: bool
) -> list[NumberedRequest]:
    """Return requests that nobody has sent before. The delays of all lists of one length are the same."""
    first = time.time_ns() // NUM_DELAYS * NUM_DELAYS
    parts = delays.parts()
    first_s, whole_s = delays.first_s if is_streamed else delays.whole_s, delays.mean_s(is_streamed=is_streamed)
    return [
        NumberedRequest(
            request_bytes(host, path, model, first + place, is_streamed=is_streamed),
            parts[place % NUM_DELAYS] * first_s,
            parts[place % NUM_DELAYS] * whole_s,
        )
        for place in range(count)
    ]


def request_bytes(host: str, path: str, model: str, number: int, *, is_streamed: bool) -> bytes:
    """Return one request."""
    messages = [{"role": "system", "content": "You are brief."}, {"role": "user", "content": f"{number}: {CONTENT}"}]
    body = json.dumps({"model": model, "messages": messages, "max_tokens": 64, "stream": is_streamed}).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nauthorization: Bearer none\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


class Asking(asyncio.Protocol):
    """This class asks on one connection, again and again until a moment. `ended` is done when it has stopped."""

    def __init__(self, requests: list[NumberedRequest], tally: Tally, until_s: float, *, is_streamed: bool) -> None:
        self._requests = requests
        self._tally = tally
        self.is_answered = True
        self._until_s = until_s
        self._is_streamed = is_streamed
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._sent_s = self._first_s = 0.0
        self._tail = b""
        self._asked: NumberedRequest | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self._tally.num_failures += 1
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        if not self._first_s:
            self._first_s = time.perf_counter()
        self._tail = body if len(body) >= 32 else self._tail[-32:] + body

    def on_message_complete(self) -> None:
        """Count the answer and ask again."""
        now_s = time.perf_counter()
        is_whole = not self._is_streamed or self._tail.rstrip().endswith(b"data: [DONE]")
        if self._asked is not None and self._parser.get_status_code() == 200 and self._first_s and is_whole:
            whole_s, first_s = now_s - self._sent_s, self._first_s - self._sent_s
            self._tally.whole_s.append(whole_s)
            self._tally.first_s.append(first_s)
            self._tally.late_s.append(whole_s - self._asked.whole_s)
            self._tally.late_first_s.append(first_s - self._asked.first_s)
        else:
            self._tally.num_failures += 1
        self.is_answered = True
        self._parser = httptools.HttpResponseParser(self)
        # The parser that has called this is still at work.
        asyncio.get_running_loop().call_soon(self._ask)

    def _ask(self) -> None:
        if self._transport is None or self.ended.done():
            return
        self._first_s, self._tail = 0.0, b""
        self._sent_s = time.perf_counter()
        if self._requests and (self._sent_s < self._until_s or self._asked is None):
            self._asked, self.is_answered = self._requests.pop(), False
            self._transport.write(self._asked.data)
        else:
            self.ended.set_result(None)
            self._transport.close()


async def measured(
    url: str,
    model: str,
    num_in_flight: int,
    for_s: float,
    delays: Delays,
    *,
    is_streamed: bool,
    max_requests: int = 100_000,
) -> Measured:
    """Ask at a base URL for so long, or until there have been so many requests, and wait for the last answers. The
    first requests come evenly within the mean time of an answer, before that. `delays`: those of the server behind
    it."""
    where = urlsplit(url)
    assert where.hostname is not None
    assert where.port is not None
    path = f"{where.path}/chat/completions"
    count = min(max_requests, max(num_in_flight, int(for_s * 5_000)))
    requests = requests_of(where.netloc, path, model, count, delays, is_streamed=is_streamed)
    tally, loop = Tally(), asyncio.get_running_loop()
    cpu_s, began_s = time.process_time(), time.perf_counter()
    mean_s = delays.mean_s(is_streamed=is_streamed)
    until_s = began_s + mean_s + for_s
    asking = []
    for number in range(num_in_flight):
        await asyncio.sleep(began_s + mean_s * number / num_in_flight - time.perf_counter())
        _, one = await loop.create_connection(
            lambda: Asking(requests, tally, until_s, is_streamed=is_streamed), where.hostname, where.port
        )
        asking.append(one)
    left_s = until_s + MAX_WAIT_S - time.perf_counter()
    await asyncio.wait([one.ended for one in asking], timeout=left_s)
    num_unanswered = sum(not one.ended.done() and not one.is_answered for one in asking)
    return _figures(tally, num_unanswered, time.perf_counter() - began_s, time.process_time() - cpu_s)


def percentile_ms(times_s: list[float], share: float) -> float:
    """Return the least time that so many are not above, in milliseconds; 0 of none."""
    return 1000 * sorted(times_s)[ceil(share * len(times_s)) - 1] if times_s else 0.0


def _figures(tally: Tally, num_unanswered: int, seconds: float, cpu_s: float) -> Measured:
    whole, first = tally.whole_s, tally.first_s
    return Measured(
        num_answers=len(whole),
        num_failures=tally.num_failures,
        num_unanswered=num_unanswered,
        seconds=seconds,
        p50_ms=percentile_ms(whole, 0.5),
        p95_ms=percentile_ms(whole, 0.95),
        first_p50_ms=percentile_ms(first, 0.5),
        first_p95_ms=percentile_ms(first, 0.95),
        late_p50_ms=percentile_ms(tally.late_s, 0.5),
        late_p95_ms=percentile_ms(tally.late_s, 0.95),
        late_first_p50_ms=percentile_ms(tally.late_first_s, 0.5),
        cpu_s=cpu_s,
    )


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(description=__doc__)
    _parser.add_argument("url")
    _parser.add_argument("--model", required=True)
    _parser.add_argument("--in-flight", type=int, required=True)
    _parser.add_argument("--for-s", type=float, required=True)
    _parser.add_argument("--stream", action="store_true")
    add_delay_arguments(_parser)
    _given = _parser.parse_args()
    _delays = of_arguments(_given)
    _found = measured(_given.url, _given.model, _given.in_flight, _given.for_s, _delays, is_streamed=_given.stream)
    print(json.dumps(asdict(asyncio.run(_found))))
