"""DSPy: a Module whose steps ask `dspy.LM`, with DSPy's own cache. DSPy is imported when the arm runs."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from typing import Any

from halo.arms.baselines import run_row
from halo.graph import Calls, Graph, Row, Rows


async def dspy(graph: Graph, calls: Calls, rows: Sequence[Row]) -> list[Any]:
    """Requests are given whole: signatures would write other prompts."""
    library: Any = importlib.import_module("dspy")
    # Answers that earlier processes kept on disk would stand in for this one's.
    library.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    asked = _Asked(library, calls)

    class Program(library.Module):  # type: ignore[misc]  # a library that need not be installed has no types
        async def aforward(self, row: Row) -> Any:
            return await run_row(graph, asked, row)

    program = Program()
    return await asyncio.gather(*(program.acall(row=row) for row in rows), return_exceptions=True)


class _Asked:
    """`Calls` whose prompts go through DSPy."""

    def __init__(self, library: Any, calls: Calls) -> None:
        self._library = library
        self._lm15 = library.lm15
        self._calls = calls
        self._models: dict[str, Any] = {}

    async def llm(self, model: str, system: str, prompt: str, max_tokens: int) -> str:
        if model not in self._models:
            self._models[model] = self._library.LM(model, engine=self, async_engine=_Engine(self._lm15, self._calls))
        message = self._lm15.Message("user", (self._lm15.TextPart(prompt),))
        config = self._lm15.Config(max_tokens=max_tokens, temperature=0.0)
        response = await self._models[model].acall(self._lm15.Request(model, (message,), system, config=config))
        text: str = response.message.parts[0].text
        return text

    async def sql(self, query: str, **params: Any) -> Rows:
        return await self._calls.sql(query, **params)

    async def http(self, path: str, **params: Any) -> Any:
        return await self._calls.http(path, **params)

    def complete(self, request: Any) -> Any:
        raise AssertionError("DSPy is asked asynchronously only")


class _Engine:
    """This class answers what `dspy.LM` asks: the engine adapter of all baselines."""

    def __init__(self, lm15: Any, calls: Calls) -> None:
        self._lm15 = lm15
        self._calls = calls

    async def complete(self, request: Any) -> Any:
        prompt = request.messages[0].parts[0].text
        text = await self._calls.llm(request.model, request.system, prompt, request.config.max_tokens)
        message = self._lm15.Message("assistant", (self._lm15.TextPart(text),))
        return self._lm15.Response(None, request.model, message, "stop", self._lm15.Usage())
