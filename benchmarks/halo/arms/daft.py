"""Daft: a column for each step, filled by an asynchronous UDF. Daft is imported when the arm runs."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from halo.graph import Calls, Graph, Row

# Daft wants UDFs that can be pickled, and clients cannot be: they find the one batch of this process here.
_running: list[Callable[[str, tuple[str, ...]], Coroutine[Any, Any, str]]] = []


async def daft(graph: Graph, calls: Calls, rows: Sequence[Row]) -> list[Any]:
    """Columns hold JSON: the values of the steps have types of their own. Daft runs in threads; its calls come back to
    this loop, where the clients and their limits are."""
    library: Any = importlib.import_module("daft")
    loop = asyncio.get_running_loop()

    async def fill(name: str, texts: tuple[str, ...]) -> str:
        step = _run(graph, name, calls, [json.loads(text) for text in texts])
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(step, loop))

    frame = library.from_pydict({"row": [json.dumps(row) for row in rows]})
    for name in graph.order:
        reads = [library.col(one) for one in ("row", *graph.reads[name])]
        frame = frame.with_column(name, library.func(_udf(name), return_dtype=library.DataType.string())(*reads))
    _running[:] = [fill]
    found = await asyncio.to_thread(lambda: frame.select(graph.output).to_pydict()[graph.output])
    values = [json.loads(text) for text in found]
    return [RuntimeError(value["failure"]) if _has_failed(value) else value for value in values]


def _udf(name: str) -> Callable[..., Coroutine[Any, Any, str]]:
    async def fill(*texts: str) -> str:
        return await _fill(name, texts)

    return fill


async def _fill(name: str, texts: tuple[str, ...]) -> str:
    """Pickled by its name, unlike what it finds."""
    return await _running[0](name, texts)


async def _run(graph: Graph, name: str, calls: Calls, values: list[Any]) -> str:
    """The step's value. A failure is one too: a UDF that raises would end the batch."""
    value: Any = next(filter(_has_failed, values), None)
    if value is None:
        row, *rest = values
        try:
            value = await graph.run(name, calls, row, dict(zip(graph.reads[name], rest, strict=True)))
        except Exception as error:
            value = {"failure": f"{type(error).__name__}: {error}"}
    return json.dumps(value)


def _has_failed(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"failure"}
