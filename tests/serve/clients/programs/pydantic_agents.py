"""An agent of pydantic-ai: python pydantic_agents.py BASE_URL MODEL"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

QUESTION = "How is the weather in Oslo?"


class Place(BaseModel):
    """The place that was asked about."""

    city: str


def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


async def main(base_url: str, model: str) -> None:
    provider, told = OpenAIProvider(base_url=base_url, api_key="none"), {}
    for form in (OpenAIResponsesModel, OpenAIChatModel):
        agent: Any = Agent(form(model, provider=provider), tools=[weather])
        whole = await agent.run(QUESTION)
        async with agent.run_stream(QUESTION) as stream:
            pieces = [piece async for piece in stream.stream_text(delta=True)]
        formed: Any = Agent(form(model, provider=provider), tools=[weather], output_type=Place)
        told[form.__name__] = {
            "answer": whole.output,
            "streamed": "".join(pieces),
            "city": (await formed.run(QUESTION)).output.city,
        }
    print(json.dumps(told))  # noqa: T201 - what the test reads


asyncio.run(main(*sys.argv[1:]))
