"""A chat with a modelled engine, from the body to what the client reads."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from openai.types.chat import ChatCompletion

from sundog.engines.base import Chunk
from sundog.engines.embeddings import Embeddings
from sundog.secrets import Secrets
from sundog.serve.wire.chat.answer import ChatStream, chat_completion
from sundog.serve.wire.embeddings import embed_call, embeddings_answer
from tests.serve.wire.chats import CLOCK, HEAD, KIND, OPTIONS, WEATHER, called


def answered(call: Any) -> list[Chunk]:
    async def run() -> list[Chunk]:
        engine = KIND.open(OPTIONS, 0, Secrets({}))
        await engine.start()
        try:
            return [chunk async for chunk in engine.generate(call.request)]
        finally:
            await engine.close()

    return asyncio.run(run())


def test_each_answer_of_constrained_tools_is_a_call_or_final() -> None:
    found: set[str] = set()
    for seed in range(20):
        call = called(tools=[WEATHER, CLOCK], seed=seed, temperature=0, stream=True)
        chunks = answered(call)
        (choice,) = ChatCompletion.model_validate(chat_completion(call, chunks, HEAD), strict=True).choices
        names = [one.model_dump()["function"]["name"] for one in choice.message.tool_calls or []]
        found.update(names or ["final"])
        assert choice.finish_reason == ("tool_calls" if names else "stop")
        stream = ChatStream(call, HEAD)
        sent = [one["choices"][0]["delta"] for chunk in chunks for one in stream.feed(chunk)]
        assert "".join(one.get("content") or "" for one in sent) == (choice.message.content or "")
    assert found == {"weather", "clock", "final"}


def test_vectors() -> None:
    call = embed_call({"input": ["a", "b"], "dimensions": 4}, "r1")

    async def run() -> Embeddings:
        engine = KIND.open(OPTIONS, 0, Secrets({}))
        await engine.start()
        try:
            return await engine.embed(call.request)
        finally:
            await engine.close()

    answer = embeddings_answer(call, asyncio.run(run()), "small")
    assert [len(one["embedding"]) for one in answer["data"]] == [4, 4]
    assert json.dumps(answer)
