"""The calls of one request to a real server, step by step, as a program of a user's own makes them.

Owns the prompt of a step, which is that of the flow in `online.flows`. Never decides when a request begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import httpx
from placed.graphs import Graph, GraphStep

MODEL = "m"
FOUND = "found"
EXTRA = {"ignore_eos": True, "skip_special_tokens": False}
"""Fields of vLLM by which a model with made-up weights answers with so many tokens, and never with nothing."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How a request is answered. `tool_scale`: what the graph's tools last, as a share."""

    client: httpx.AsyncClient
    graph: Graph
    num_output_tokens: int
    tool_scale: float

    async def request(self, query: int) -> None:
        """Answer one request: each step begins when those that it reads have ended."""
        tasks: dict[str, asyncio.Task[str]] = {}
        async with asyncio.TaskGroup() as group:
            for step in self.graph.steps:
                tasks[step.name] = group.create_task(self._after(step, query, tasks))

    async def step(self, step: GraphStep, query: int, earlier: Mapping[str, str]) -> str:
        """Return what a step gives."""
        if not step.is_llm:
            await asyncio.sleep(self.graph.call_s(step) * self.tool_scale)
            return FOUND
        prompt = " ".join([step.name, f"query {query}", *(earlier[parent] for parent in step.parents)])
        return await self._chat(prompt)

    async def _after(self, step: GraphStep, query: int, tasks: Mapping[str, asyncio.Task[str]]) -> str:
        earlier = {parent: await tasks[parent] for parent in step.parents}
        return await self.step(step, query, earlier)

    async def _chat(self, prompt: str) -> str:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": self.num_output_tokens,
            "temperature": 0,
            **EXTRA,
        }
        answer = await self.client.post("/chat/completions", json=body)
        answer.raise_for_status()
        text: str = answer.json()["choices"][0]["message"]["content"]
        return text
