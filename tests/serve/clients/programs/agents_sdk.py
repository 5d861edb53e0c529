"""An agent of the OpenAI Agents SDK: python agents_sdk.py BASE_URL MODEL"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI

QUESTION = "How is the weather in Oslo?"


@function_tool
def weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


async def main(base_url: str, model: str) -> None:
    set_tracing_disabled(disabled=True)
    client, told = AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0), {}
    for form in (OpenAIResponsesModel, OpenAIChatCompletionsModel):
        agent: Any = Agent("traveller", instructions="Use tools.", tools=[weather], model=form(model, client))
        whole = await Runner.run(agent, QUESTION)
        streamed = Runner.run_streamed(agent, QUESTION)
        pieces = [event.data.delta async for event in streamed.stream_events() if _is_text(event)]
        told[form.__name__] = {
            "answer": whole.final_output,
            "uses": [item.output for item in whole.new_items if item.type == "tool_call_output_item"],
            "streamed": streamed.final_output,
            "pieces": pieces,
            "requests": whole.context_wrapper.usage.requests,
            "tokens": whole.context_wrapper.usage.total_tokens,
        }
    print(json.dumps(told))  # noqa: T201 - what the test reads


def _is_text(event: Any) -> bool:
    return event.type == "raw_response_event" and event.data.type == "response.output_text.delta"


asyncio.run(main(*sys.argv[1:]))
