"""A case as a flow of sundog's: null engines that take turns on workers, tools of known length, rows of one column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from placed.cases import Case
from placed.graphs import CALL_S, PLACES, Graph, GraphStep, load_s


def write_flow(case: Case, folder: Path) -> Path:
    """The flow file in `folder`, with its rows beside it."""
    graph = case.graph
    flow = {
        "name": graph.name,
        "workers": {"gpu": {"count": case.num_workers}},
        "engines": {model: _engine(model) for model in graph.models},
        "inputs": {"rows": {"path": "rows.jsonl"}},
        "nodes": {step.name: _node(case, step) for step in graph.steps},
        "outputs": {name: _value(graph, name) for name in graph.ends},
    }
    (folder / "rows.jsonl").write_text("".join(f'{{"id": {number}}}\n' for number in range(case.num_rows)))
    path = folder / "flow.yaml"
    # JSON is YAML.
    path.write_text(json.dumps(flow, indent=1))
    return path


def _engine(model: str) -> dict[str, Any]:
    return {
        "kind": "null",
        "model": model,
        "latency_s": CALL_S,
        "load_s": load_s(model),
        "max_concurrency": PLACES,
        "workers": "gpu",
    }


def _node(case: Case, step: GraphStep) -> dict[str, Any]:
    # With the step's name in it no two steps make equal calls.
    about = " ".join([step.name, "{{ row.id }}", *(_value(case.graph, parent) for parent in step.parents)])
    if step.is_llm:
        return {"llm": {"engine": step.kind, "prompt": about}}
    seconds = case.graph.call_s(step)
    return {"timed": {"about": about, "pool": step.kind, "seconds": seconds, "places": case.tool_places}}


def _value(graph: Graph, name: str) -> str:
    is_llm = next(step.is_llm for step in graph.steps if step.name == name)
    return f"{{{{ {name}.text }}}}" if is_llm else f"{{{{ {name} }}}}"
