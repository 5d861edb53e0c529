"""The baselines that users write by hand: plain asyncio, the careful thirty lines, operator by operator.

Each takes the graph of a workload, a client and the rows, and gives one value or one failure for each row, in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from halo.graph import Calls, Graph, Row, Rows

Values = list[Any]


async def plain_asyncio(graph: Graph, calls: Calls, rows: Sequence[Row]) -> Values:
    """A coroutine for each row, in which every step starts when the steps that it reads are done."""
    return await asyncio.gather(*(run_row(graph, calls, row) for row in rows), return_exceptions=True)


async def careful(graph: Graph, calls: Calls, rows: Sequence[Row]) -> Values:
    """The same with a memo of equal calls, and rows that share a document beside each other."""
    memo = Memo(calls)
    places = sorted(
        range(len(rows)), key=lambda place: [str(value) for key, value in rows[place].items() if key != "id"]
    )
    values = await plain_asyncio(graph, memo, [rows[place] for place in places])
    return [value for _, value in sorted(zip(places, values, strict=True), key=lambda pair: pair[0])]


async def operator_by_operator(graph: Graph, calls: Calls, rows: Sequence[Row]) -> Values:
    """One step after the other, each for all rows at once."""
    scopes: list[dict[str, Any]] = [{} for _ in rows]
    for name in graph.order:
        found = await asyncio.gather(
            *(_run_step(graph, name, calls, row, scope) for row, scope in zip(rows, scopes, strict=True)),
            return_exceptions=True,
        )
        for scope, value in zip(scopes, found, strict=True):
            scope[name] = value
    return [_first_failure(scope) or scope[graph.output] for scope in scopes]


class Memo:
    """`Calls` that are made once for equal arguments, in flight too."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._asked: dict[Any, asyncio.Future[Any]] = {}

    async def llm(self, model: str, system: str, prompt: str, max_tokens: int) -> str:
        ask = self._calls.llm
        text: str = await self._once(
            (model, system, prompt, max_tokens), lambda: ask(model, system, prompt, max_tokens)
        )
        return text

    async def sql(self, query: str, **params: Any) -> Rows:
        rows: Rows = await self._once((query, *params.items()), lambda: self._calls.sql(query, **params))
        return rows

    async def http(self, path: str, **params: Any) -> Any:
        return await self._once((path, *params.items()), lambda: self._calls.http(path, **params))

    async def _once(self, key: Any, ask: Callable[[], Awaitable[Any]]) -> Any:
        if key not in self._asked:
            self._asked[key] = asyncio.ensure_future(ask())
        return await self._asked[key]


async def run_row(graph: Graph, calls: Calls, row: Row) -> Any:
    """The answer of one row; each step starts when the steps that it reads are done."""
    tasks: dict[str, asyncio.Task[Any]] = {}

    async def step(name: str) -> Any:
        values = {one: await tasks[one] for one in graph.reads[name]}
        return await graph.run(name, calls, row, values)

    async with asyncio.TaskGroup() as group:
        for name in graph.order:
            tasks[name] = group.create_task(step(name))
    return tasks[graph.output].result()


async def _run_step(graph: Graph, name: str, calls: Calls, row: Row, scope: dict[str, Any]) -> Any:
    if failure := _first_failure(scope):
        raise failure
    return await graph.run(name, calls, row, scope)


def _first_failure(scope: dict[str, Any]) -> BaseException | None:
    return next((value for value in scope.values() if isinstance(value, BaseException)), None)
