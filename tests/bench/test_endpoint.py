"""The endpoint in front of the engines speaks the protocol that sundog's client speaks."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from halo.case import MODELS
from halo.endpoint import Models, make_app, running_endpoint

from sundog.engines.base import ENGINES, Chunk, GenerateRequest, Message
from sundog.engines.modelled.null import modelled_answer
from sundog.engines.openai.protocol.answers import read_chunks
from sundog.engines.openai.protocol.bodies import request_body
from sundog.errors import EngineError
from sundog.secrets import Secrets
from tests.engines.test_openvino import needs_model

REQUEST = GenerateRequest("1", (Message("user", "hello"),), max_tokens=8)


async def ask(model: str, **options: Any) -> list[Chunk]:
    models = Models("null", {"model": "same", **options})
    await models.load()
    transport = httpx.ASGITransport(make_app(models))
    async with httpx.AsyncClient(transport=transport, base_url="http://bench") as client:
        listed = (await client.get("/v1/models")).json()["data"]
        assert tuple(one["id"] for one in listed) == MODELS
        body = request_body(REQUEST, model=model, api="chat", has_priority=False)
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            chunks = [chunk async for chunk in read_chunks(response.aiter_bytes(), lambda: 2)]
        assert (await client.post("/v1/forget")).status_code == 200
    await models.close()
    return chunks


def test_an_answer_comes_as_the_engine_gave_it() -> None:
    pytest.importorskip("starlette", reason="of the extra bench")
    chunks = asyncio.run(ask("b"))
    text, reason = modelled_answer("same", REQUEST)
    assert "".join(chunk.text for chunk in chunks) == text
    assert chunks[-1].finish_reason == reason
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.num_prompt_tokens, usage.num_cached_tokens) == (2, 0)


def test_a_failure_of_the_engine_is_an_error_event() -> None:
    pytest.importorskip("starlette", reason="of the extra bench")

    async def fail() -> None:
        models = Models("null", {"model": "same"})
        await models.load()
        await models.close()
        body = request_body(REQUEST, model="a", api="chat", has_priority=False)
        pieces = (event.encode() async for event in models.events(body))
        async for _ in read_chunks(pieces, lambda: 2):
            pass

    with pytest.raises(EngineError, match="not started, or closed"):
        asyncio.run(fail())


class TestEmbedded:
    pytestmark = needs_model

    def test_the_embedded_engine_forgets(self) -> None:
        async def cached_tokens(base_url: str) -> list[int | None]:
            kind = ENGINES.get("openai")()
            engine = kind.open(kind.Options.model_validate({"model": "a", "base_url": base_url}), 0, Secrets({}))
            request = GenerateRequest("1", (Message("user", "One two three four five. " * 20),), max_tokens=2)
            await engine.start()
            found = []
            for _ in range(2):
                async for chunk in engine.generate(request):
                    usage = chunk.usage
                assert usage is not None
                found.append(usage.num_cached_tokens)
            await engine.close()
            return found

        with running_endpoint(4096, 4) as endpoint:
            first = asyncio.run(cached_tokens(endpoint.base_url))
            endpoint.forget()
            again = asyncio.run(cached_tokens(endpoint.base_url))
        assert first[0] == again[0] == 0
        assert (first[1] or 0) > 0
