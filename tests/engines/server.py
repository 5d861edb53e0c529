"""A small server that speaks the OpenAI protocol on a socket, and misbehaves when told to.

It runs on a thread of its own. Each request takes the next entry of `script`; without one it answers as it should, with
the text of the null engine in pieces of four characters.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from sundog.engines.base import GenerateRequest, Message
from sundog.engines.modelled.null import count_tokens, modelled_answer
from sundog.engines.modelled.vectors import hashed_vector

MODEL = "served"
MAX_CONTEXT_TOKENS = 400


@dataclass
class Exchange:
    """One request as it came, and the way to answer it."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    writer: asyncio.StreamWriter
    # Set when the client has closed the connection before the answer was whole.
    is_abandoned: threading.Event = field(default_factory=threading.Event)

    async def send(self, status: int, body: str, content_type: str = "application/json", **headers: str) -> None:
        await self.send_body(status, body.encode(), content_type, **headers)

    async def send_body(self, status: int, data: bytes, content_type: str, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} Status", f"Content-Type: {content_type}", f"Content-Length: {len(data)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + data)
        await self.writer.drain()

    async def begin_stream(self) -> None:
        lines = ["HTTP/1.1 200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked"]
        self.writer.write("\r\n".join([*lines, "", ""]).encode())
        await self.writer.drain()

    async def send_raw(self, data: bytes) -> None:
        self.writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self.writer.drain()

    async def send_event(self, event: Any) -> None:
        await self.send_raw(f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode())

    async def end_stream(self) -> None:
        await self.send_raw(b"data: [DONE]\n\n")
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()


Behaviour = Callable[[Exchange], Coroutine[Any, Any, None]]


@dataclass
class Server:
    """Facts of all requests so far, and what the next ones get."""

    base_url: str = ""
    script: deque[Behaviour] = field(default_factory=deque)
    exchanges: list[Exchange] = field(default_factory=list)
    num_connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            async for exchange in read_requests(reader, writer):
                self.exchanges.append(exchange)
                await self.answer(exchange, reader)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def answer(self, exchange: Exchange, reader: asyncio.StreamReader) -> None:
        if exchange.method == "GET" and not self.script:
            models = [{"id": MODEL, "max_model_len": MAX_CONTEXT_TOKENS}, {"id": "other"}]
            await exchange.send(200, json.dumps({"data": models}))
            return
        behaviour = self.script.popleft() if self.script else answer_well
        work = asyncio.ensure_future(behaviour(exchange))
        # A client that waits for its answer sends nothing: what comes is the end of the connection.
        gone = asyncio.ensure_future(reader.read(1))
        await asyncio.wait([work, gone], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            exchange.is_abandoned.set()
            work.cancel()
            raise ConnectionError
        gone.cancel()
        await asyncio.wait([gone])
        work.result()


async def read_requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[Exchange]:
    while True:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            return
        first, *lines = head.strip().split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            written, _, value = line.partition(": ")
            name = written.lower()
            # A header that is sent twice shows as HTTP means it.
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        method, path, _ = first.split(" ")
        yield Exchange(method, path, headers, json.loads(body) if body else {}, writer)


def text_of(content: Any) -> str:
    """Return the content of a message as one text; parts that are none count by how they are written."""
    return content if isinstance(content, str) else json.dumps(content) if content else ""


async def answer_well(exchange: Exchange) -> None:
    if exchange.path.endswith("/embeddings"):
        await answer_vectors(exchange)
        return
    body, is_chat = exchange.body, "/chat/completions" in exchange.path
    messages = body["messages"] if is_chat else [{"role": "user", "content": body["prompt"]}]
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    request = GenerateRequest(
        "x",
        tuple(Message(one["role"], text_of(one["content"])) for one in messages),
        max_tokens=body.get("max_tokens"),
        stop=tuple(body.get("stop", ())),
        json_schema=None if schema is None else json.dumps(schema),
    )
    num_prompt_tokens = sum(len(text_of(one["content"])) for one in messages) // 4 + 1
    if num_prompt_tokens > MAX_CONTEXT_TOKENS:
        await refuse_length(exchange)
        return
    if is_chat and body.get("tools") and body["tool_choice"] != "none":
        await call_a_tool(exchange, body["tools"], request)
        return
    text, finish_reason = modelled_answer(MODEL, request)
    await exchange.begin_stream()
    for start in range(0, len(text), 4):
        await exchange.send_event(event(is_chat, text[start : start + 4]))
    await exchange.send_event(event(is_chat, "", finish_reason))
    details = {"cached_tokens": num_prompt_tokens // 2}
    usage = {"prompt_tokens": num_prompt_tokens, "completion_tokens": count_tokens(text)}
    await exchange.send_event({"choices": [], "usage": {**usage, "prompt_tokens_details": details}})
    await exchange.end_stream()


async def refuse_length(exchange: Exchange) -> None:
    message = f"This model's maximum context length is {MAX_CONTEXT_TOKENS} tokens."
    await exchange.send(400, json.dumps({"error": {"message": message, "code": 400}}))


async def answer_vectors(exchange: Exchange) -> None:
    """Give the null engine's vectors, the last one first, as the protocol allows; "bad" and long texts are refused."""
    texts = exchange.body["input"]
    if max(map(count_tokens, texts)) > MAX_CONTEXT_TOKENS:
        await refuse_length(exchange)
        return
    if "bad" in texts:
        await exchange.send(400, json.dumps({"error": {"message": "this text is not taken", "code": 400}}))
        return
    vectors = [hashed_vector(MODEL, text, exchange.body.get("dimensions")) for text in texts]
    data = [{"object": "embedding", "index": i, "embedding": list(vector)} for i, vector in enumerate(vectors)]
    usage = {"prompt_tokens": sum(map(len, texts)), "total_tokens": sum(map(len, texts))}
    await exchange.send(200, json.dumps({"object": "list", "data": data[::-1], "usage": usage}))


async def call_a_tool(exchange: Exchange, tools: list[Any], request: GenerateRequest) -> None:
    """Call one of `tools`, its arguments in pieces of three characters."""
    function = tools[len(request.messages[-1].content) % len(tools)]["function"]
    schema = function["parameters"]
    filled = replace(request, json_schema=json.dumps(schema))
    arguments = modelled_answer(MODEL, filled)[0] if schema["properties"] else "{}"
    await exchange.begin_stream()
    begun = {"index": 0, "id": "call_17", "type": "function", "function": {"name": function["name"], "arguments": ""}}
    await exchange.send_event({"choices": [{"index": 0, "delta": {"tool_calls": [begun]}}]})
    for start in range(0, len(arguments), 3):
        piece = {"index": 0, "function": {"arguments": arguments[start : start + 3]}}
        await exchange.send_event({"choices": [{"index": 0, "delta": {"tool_calls": [piece]}}]})
    await exchange.send_event({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    await exchange.send_event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 7}})
    await exchange.end_stream()


def event(is_chat: bool, text: str, finish_reason: str | None = None) -> dict[str, Any]:
    piece = {"delta": {"content": text}} if is_chat else {"text": text}
    return {"choices": [{"index": 0, **piece, "finish_reason": finish_reason}]}


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    server, loop, address = Server(), asyncio.new_event_loop(), threading.Event()

    async def main(is_over: asyncio.Event) -> None:
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        server.base_url = f"http://127.0.0.1:{port}/v1"
        address.set()
        await is_over.wait()
        listener.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
            await asyncio.wait([task])

    is_over = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(main(is_over),))
    thread.start()
    address.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(is_over.set)
        thread.join()
        loop.close()
