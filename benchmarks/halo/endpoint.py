"""The embedded engine behind an OpenAI-compatible endpoint: three loaded copies of it, as models a, b and c.

Owns a small server, run as `python -m halo.endpoint KV_TOKENS MAX_CONCURRENCY`, and its start and end. Every arm
reaches the engine through it, so that none is nearer to it than another.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from halo.case import MODELS
from sundog.engines.base import ENGINES, Engine, GenerateRequest, Message
from sundog.errors import EngineError, EngineUnavailable
from sundog.secrets import Secrets

MODEL = "smollm2-135m"
STOP_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Endpoint:
    base_url: str
    process_ids: tuple[int, ...]

    def forget(self) -> None:
        """Load the engines anew: openvino-genai cannot empty a prefix cache."""
        httpx.post(f"{self.base_url}/forget", timeout=120).raise_for_status()


@contextmanager
def running_endpoint(kv_tokens: int, max_concurrency: int) -> Iterator[Endpoint]:
    """A server that lives as long as the block."""
    command = [sys.executable, "-m", "halo.endpoint", str(kv_tokens), str(max_concurrency)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stdout is not None, "it was asked for"
            line = server.stdout.readline()
            if not line:
                what = "the endpoint of the embedded engine did not start"
                raise EngineUnavailable(what, hint="see its output above")
            yield Endpoint(line.strip(), (server.pid,))
        finally:
            server.terminate()
            server.wait(STOP_TIMEOUT_S)


class Models:
    """The engines by name, of one kind and with equal options."""

    def __init__(self, kind: str, options: Mapping[str, Any]) -> None:
        self._kind = kind
        self._options = options
        self._engines: dict[str, Engine] = {}

    async def load(self) -> None:
        kind = ENGINES.get(self._kind)()
        options = kind.Options.model_validate(self._options)
        self._engines = {model: kind.open(options, 0, Secrets({})) for model in MODELS}
        await asyncio.gather(*(engine.start() for engine in self._engines.values()))

    async def close(self) -> None:
        for engine in self._engines.values():
            await engine.close()

    async def events(self, body: Mapping[str, Any]) -> AsyncIterator[str]:
        """The event stream of one chat completion."""
        messages = tuple(Message(one["role"], one["content"]) for one in body["messages"])
        request = GenerateRequest(str(id(body)), messages, body.get("max_tokens"), body.get("temperature", 0.0))
        try:
            async with aclosing(self._engines[body["model"]].generate(request)) as chunks:
                async for chunk in chunks:
                    choice = {"index": 0, "delta": {"content": chunk.text}, "finish_reason": chunk.finish_reason}
                    yield _event({"choices": [choice]})
        except EngineError as error:
            yield _event({"error": {"message": str(error), "code": 400}})
            return
        assert chunk.usage is not None, "the last chunk has the usage"
        usage = {
            "prompt_tokens": chunk.usage.num_prompt_tokens,
            "completion_tokens": chunk.usage.num_output_tokens,
            "prompt_tokens_details": {"cached_tokens": chunk.usage.num_cached_tokens},
        }
        yield _event({"choices": [], "usage": usage})
        yield "data: [DONE]\n\n"


def _event(value: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(value)}\n\n"


def make_app(models: Models) -> Any:
    """The ASGI application. starlette is imported here: only the server needs it."""
    responses = importlib.import_module("starlette.responses")
    routing = importlib.import_module("starlette.routing")

    async def chat(request: Any) -> Any:
        return responses.StreamingResponse(models.events(await request.json()), media_type="text/event-stream")

    async def names(request: Any) -> Any:
        return responses.JSONResponse({"data": [{"id": model} for model in MODELS]})

    async def forget(request: Any) -> Any:
        await models.close()
        await models.load()
        return responses.JSONResponse({})

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        await models.load()
        print(os.environ["SUNDOG_BENCH_URL"], flush=True)
        yield
        await models.close()

    routes = [
        routing.Route("/v1/chat/completions", chat, methods=["POST"]),
        routing.Route("/v1/models", names),
        routing.Route("/v1/forget", forget, methods=["POST"]),
    ]
    return importlib.import_module("starlette.applications").Starlette(routes=routes, lifespan=lifespan)


def main(kv_tokens: int, max_concurrency: int) -> None:
    uvicorn = importlib.import_module("uvicorn")
    options = {"model": MODEL, "max_kv_tokens": kv_tokens, "max_concurrency": max_concurrency}
    config = uvicorn.Config(make_app(Models("openvino", options)), port=0, log_level="warning")
    listener = config.bind_socket()
    os.environ["SUNDOG_BENCH_URL"] = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
