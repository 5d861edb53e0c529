"""sundog's arm in real time: the graph as a flow of a `sundog serve`, whose one engine is the real server.

Owns the files of that server and its start.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.processes import free_port, started, wait_until_it_answers
from placed.graphs import Graph, GraphStep

from online.flows import row_of
from online.load import Asked
from online.real.asking import EXTRA, FOUND, MODEL

MANY = 4096
TOOLS = f"""import asyncio


async def look(about, seconds):
    await asyncio.sleep(seconds)
    return {FOUND!r}
"""


@contextmanager
def serving(graph: Graph, base_url: str, num_output_tokens: int, tool_scale: float, folder: Path) -> Iterator[str]:
    """Serve the graph while the context is open; yields the server's address. Nothing was answered before."""
    engine = {"kind": "openai", "model": MODEL, "base_url": base_url, "max_concurrency": MANY, "extra_body": EXTRA}
    flow = {
        "name": graph.name,
        "engines": {MODEL: engine},
        "inputs": {"rows": {"path": "rows.jsonl"}},
        "limits": {"python": {"max_concurrency": MANY}},
        "nodes": {step.name: _node(graph, step, num_output_tokens, tool_scale) for step in graph.steps},
        "outputs": {name: _value(graph, name) for name in graph.ends},
    }
    (folder / "tools.py").write_text(TOOLS)
    (folder / "rows.jsonl").write_text(json.dumps(row_of(Asked(0.0, 0))) + "\n")
    # JSON is YAML.
    (folder / "flow.yaml").write_text(json.dumps(flow))
    port = free_port()
    command = [sys.executable, "-m", "sundog", "serve", str(folder / "flow.yaml"), "--port", str(port)]
    command += ["--state", str(folder / "state")]
    with started(command, folder / "serve.log", {}) as process:
        wait_until_it_answers(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}"


def _node(graph: Graph, step: GraphStep, num_output_tokens: int, tool_scale: float) -> dict[str, Any]:
    about = " ".join([step.name, "{{ row.query }}", *(_value(graph, parent) for parent in step.parents)])
    if step.is_llm:
        return {"llm": {"engine": MODEL, "prompt": about, "max_tokens": num_output_tokens, "temperature": 0}}
    seconds = graph.call_s(step) * tool_scale
    # As in the modelled experiment, look-ups are made for each request: steps in Python are not shared.
    return {"python": {"call": "tools:look", "args": {"about": about, "seconds": seconds}}}


def _value(graph: Graph, name: str) -> str:
    is_llm = next(step.is_llm for step in graph.steps if step.name == name)
    return f"{{{{ {name}.text }}}}" if is_llm else f"{{{{ {name} }}}}"
