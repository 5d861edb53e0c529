"""The arms in real time: each answers requests as they come, in its own way.

Owns when a request begins. What its calls are, `asking` owns; sundog's arm is a `sundog serve` of its own process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any, TypedDict

import httpx
from langgraph.graph import START, StateGraph

from online.batches import SEGMENT, WINDOW_S
from online.flows import row_of
from online.load import Asked
from online.real.asking import Asking

Answer = Callable[[Asked], Awaitable[None]]
"""Returns when a request has been answered."""


class Texts(TypedDict):
    """The state of a graph of LangGraph."""

    query: int
    texts: Annotated[dict[str, str], lambda one, other: {**one, **other}]


def by_asyncio(asking: Asking) -> Answer:
    """Each request on its own, as it comes."""

    async def answer(asked: Asked) -> None:
        await asking.request(asked.query)

    return answer


def by_langgraph(asking: Asking) -> Answer:
    """Each request as a run of one compiled graph of LangGraph."""
    graph: Any = StateGraph(Texts)
    for step in asking.graph.steps:

        async def node(state: Texts, step: Any = step) -> Any:
            return {"texts": {step.name: await asking.step(step, state["query"], state["texts"])}}

        graph.add_node(step.name, node)
        graph.add_edge(list(step.parents) if step.parents else START, step.name)
    compiled = graph.compile()

    async def answer(asked: Asked) -> None:
        await compiled.ainvoke({"query": asked.query, "texts": {}})

    return answer


class Gathered:
    """Halo online: what has come is a batch, and the next one begins when it has ended. `segment`: the most requests of
    one, and no waiting (version 2); None for all that a window of a second has brought (version 1)."""

    def __init__(self, asking: Asking, segment: int | None = None) -> None:
        self._asking = asking
        self._segment = segment
        self._waiting: list[tuple[Asked, asyncio.Future[None]]] = []
        self._has_come = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    async def answer(self, asked: Asked) -> None:
        """Return when the request's own steps have ended."""
        if self._work is None:
            self._work = asyncio.ensure_future(self._run())
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, ended))
        self._has_come.set()
        await ended

    async def close(self) -> None:
        """Leave what is open."""
        if self._work is not None:
            self._work.cancel()
            with suppress(asyncio.CancelledError):
                await self._work

    async def _run(self) -> None:
        while True:
            await self._has_come.wait()
            if self._segment is None:
                await asyncio.sleep(WINDOW_S)
            size = self._segment or len(self._waiting)
            batch, self._waiting = self._waiting[:size], self._waiting[size:]
            if not self._waiting:
                self._has_come.clear()
            await self._answer(batch)

    async def _answer(self, batch: Sequence[tuple[Asked, asyncio.Future[None]]]) -> None:
        async with asyncio.TaskGroup() as group:
            for asked, ended in batch:
                group.create_task(self._one(asked, ended))

    async def _one(self, asked: Asked, ended: asyncio.Future[None]) -> None:
        await self._asking.request(asked.query)
        if not ended.done():
            ended.set_result(None)


def by_windows(asking: Asking) -> Gathered:
    """Windows that block."""
    return Gathered(asking)


def by_segments(asking: Asking) -> Gathered:
    """Segments that block."""
    return Gathered(asking, SEGMENT)


def by_server(client: httpx.AsyncClient, flow: str) -> Answer:
    """The flow of a `sundog serve`, asked over HTTP."""

    async def answer(asked: Asked) -> None:
        told = await client.post(f"/v1/flows/{flow}/runs", json={"row": row_of(asked)})
        told.raise_for_status()
        assert told.json()["row"]["state"] == "done", told.text

    return answer
