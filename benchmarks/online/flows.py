"""The published graphs as flows to be served, and a load as requests to them.

Owns both forms. The engines are null engines, and tools last as long as the graph says; who serves real models puts
other engines in their place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from placed.graphs import CALL_S, PLACES, Graph, GraphStep

from online.load import Asked
from online.workload import UNLIMITED_PLACES


def write_flow(graph: Graph, folder: Path, shares: Mapping[str, int], tool_places: int = UNLIMITED_PLACES) -> Path:
    """Write the flow `NAME.yaml`, which asks for a row's `query`; its tools are steps `timed` (`placed.timed`).
    `shares`: how many replicas each model has."""
    flow = {
        "name": graph.name,
        "engines": {model: _engine(model, num) for model, num in shares.items()},
        "inputs": {"rows": {"path": "rows.jsonl"}},
        "nodes": {step.name: _node(graph, tool_places, step) for step in graph.steps},
        "outputs": {name: _value(graph, name) for name in graph.ends},
    }
    (folder / "rows.jsonl").write_text(json.dumps(row_of(Asked(0.0, 0))) + "\n")
    path = folder / f"{graph.name}.yaml"
    # JSON is YAML.
    path.write_text(json.dumps(flow, indent=1))
    return path


def row_of(asked: Asked) -> dict[str, str]:
    """Return the row that a request sends."""
    return {"query": f"query {asked.query}"}


def write_requests(asked: Sequence[Asked], path: Path) -> None:
    """Write a line for each request: when it is sent, in seconds from the begin, and its row."""
    lines = (json.dumps({"time_s": round(one.time_s, 6), "row": row_of(one)}) for one in asked)
    path.write_text("".join(f"{line}\n" for line in lines))


def _engine(model: str, num_replicas: int) -> dict[str, Any]:
    return {"kind": "null", "model": model, "latency_s": CALL_S, "max_concurrency": PLACES, "replicas": num_replicas}


def _node(graph: Graph, tool_places: int, step: GraphStep) -> dict[str, Any]:
    # With the step's name in it no two steps make equal calls; requests of one query do.
    about = " ".join([step.name, "{{ row.query }}", *(_value(graph, parent) for parent in step.parents)])
    if step.is_llm:
        return {"llm": {"engine": step.kind, "prompt": about}}
    seconds = graph.call_s(step)
    return {"timed": {"about": about, "pool": step.kind, "seconds": seconds, "places": tool_places}}


def _value(graph: Graph, name: str) -> str:
    is_llm = next(step.is_llm for step in graph.steps if step.name == name)
    return f"{{{{ {name}.text }}}}" if is_llm else f"{{{{ {name} }}}}"
