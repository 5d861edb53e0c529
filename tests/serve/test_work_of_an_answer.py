"""The work that the gateway does for one answer, in numbers that no clock and no load of the machine changes.

Functions of sundog that are entered count, a coroutine that goes on too, and tasks. Who adds some on purpose raises the
limits here; benchmarks/gateway_cost.py says what that costs."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Message

from sundog.config import Config
from sundog.ir.logical import EngineBlock
from sundog.secrets import Secrets
from sundog.serve.app import open_app
from sundog.serve.serving import open_serving
from tests.transport.raw_server import serving

NUM_FIRST, NUM_COUNTED = 8, 16
HEADERS = {"host": "localhost", "content-type": "application/json", "authorization": "Bearer none", "accept": "*/*"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
NUM_CHUNKS = 20
NO_LIST = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
"""The answer to who asks for the models."""


def whole_answer() -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "word"}, "finish_reason": "stop"}
    body = json.dumps({"id": "1", "object": "chat.completion", "choices": [choice], "usage": USAGE}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send each chunk by itself, as a model does."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    for number in range(NUM_CHUNKS):
        is_last = number == NUM_CHUNKS - 1
        choice = {"index": 0, "delta": {"content": "word "}, "finish_reason": "stop" if is_last else None}
        event = b"data: %s\n\n" % json.dumps({"choices": [choice]}).encode() + (b"data: [DONE]\n\n" if is_last else b"")
        piece = b"%x\r\n%s\r\n" % (len(event), event) + (b"0\r\n\r\n" if is_last else b"")
        writer.write(piece if number else head + piece)
        await asyncio.sleep(0.002)


async def ask(app: ASGIApp, number: int, *, is_streamed: bool) -> None:
    """Ask as a server does that speaks ASGI, and see that the answer is whole."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"{number}: {'a word ' * 60}"}]
    body = json.dumps({"model": "one", "messages": messages, "max_tokens": 4, "stream": is_streamed}).encode()
    path = "/v1/chat/completions"
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
    }
    scope |= {"query_string": b"", "root_path": "", "scheme": "http", "client": None, "server": None}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    asked: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
    is_over, told = asyncio.Event(), []

    async def receive() -> Message:
        if asked:
            return asked.pop()
        await is_over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        told.append(message)

    await app(scope, receive, send)
    is_over.set()
    assert told[0]["status"] == 200
    assert (b"[DONE]" if is_streamed else b'"usage"') in b"".join(one.get("body", b"") for one in told[1:])


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """Count what is entered and begun in this thread's loop while the context lasts."""
    counts = {"functions": 0, "tasks": 0}
    loop = asyncio.get_running_loop()

    def entered(frame: Any, event: str, argument: object) -> None:
        if event == "call" and "/sundog/" in frame.f_code.co_filename:
            counts["functions"] += 1

    def task(of: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
        counts["tasks"] += 1
        return asyncio.Task(work, loop=of, **more)

    loop.set_task_factory(task)
    before = sys.getprofile()
    sys.setprofile(entered)
    try:
        yield counts
    finally:
        sys.setprofile(before)
        loop.set_task_factory(None)


async def work_of_an_answer(state_dir: Path, engine: EngineBlock, *, is_streamed: bool) -> tuple[float, float]:
    """Return the functions and the tasks of one answer, in the mean, once all is warm."""
    config = Config(state_dir, Secrets({}))
    async with open_serving(config, [], [engine]) as one, open_app(one, has_batches=False) as app:
        for number in range(NUM_FIRST):
            await ask(app, number, is_streamed=is_streamed)
        with counted() as counts:
            for number in range(NUM_COUNTED):
                await ask(app, NUM_FIRST + number, is_streamed=is_streamed)
    return counts["functions"] / NUM_COUNTED, counts["tasks"] / NUM_COUNTED


@pytest.mark.parametrize(("is_streamed", "most"), [(False, 430), (True, 455)])
def test_an_engine_of_the_process_is_asked_with_little_work(is_streamed: bool, most: int, tmp_path: Path) -> None:
    block = EngineBlock("one", "null", {"model": "one"})
    num_functions, num_tasks = asyncio.run(work_of_an_answer(tmp_path, block, is_streamed=is_streamed))
    assert num_functions <= most
    # The one that sees the client leave.
    assert num_tasks <= 1


@pytest.mark.parametrize(("is_streamed", "most"), [(False, 320), (True, 740)])
def test_a_server_is_asked_with_little_work(is_streamed: bool, most: int, tmp_path: Path) -> None:
    async def forward() -> tuple[float, float]:
        async with serving(NO_LIST, stream if is_streamed else whole_answer()) as one:
            block = EngineBlock("one", "openai", {"model": "one", "base_url": f"{one.origin}/v1"})
            return await work_of_an_answer(tmp_path, block, is_streamed=is_streamed)

    num_functions, num_tasks = asyncio.run(forward())
    assert num_functions <= most
    # The one that sees the client leave, and aiohttp's that writes a body.
    assert num_tasks <= 2
