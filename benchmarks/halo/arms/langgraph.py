"""LangGraph: a StateGraph of the same steps, run by `abatch`. LangGraph is imported when the arm runs."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypedDict

from halo.graph import Calls, Graph, Row


async def langgraph(graph: Graph, calls: Calls, rows: Sequence[Row]) -> list[Any]:
    """`max_concurrency` is left open: the client's limits, which all arms have, are the ones that hold."""
    library: Any = importlib.import_module("langgraph.graph")
    fields = dict.fromkeys(("row", *graph.steps), Any)
    # mypy wants a literal; the fields are those of the workload.
    state: Any = TypedDict("State", fields)  # type: ignore[misc]  # a state whose keys are the workload's steps
    builder = library.StateGraph(state)
    for name in graph.order:
        builder.add_node(f"do_{name}", _node(graph, name, calls))
        reads = [f"do_{one}" for one in graph.reads[name]]
        builder.add_edge(reads or library.START, f"do_{name}")
    builder.add_edge(f"do_{graph.output}", library.END)
    ends = await builder.compile().abatch([{"row": row} for row in rows], return_exceptions=True)
    return [end if isinstance(end, BaseException) else end[graph.output] for end in ends]


def _node(graph: Graph, name: str, calls: Calls) -> Callable[[Any], Awaitable[dict[str, Any]]]:
    async def run(state: Any) -> dict[str, Any]:
        values = {one: state[one] for one in graph.reads[name]}
        return {name: await graph.run(name, calls, state["row"], values)}

    return run
