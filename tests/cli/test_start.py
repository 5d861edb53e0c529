"""The imports of a command before it has anything to do: the libraries of formats, tools and engines that a flow does
not use take most of a second on a slow machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FLOW = """
name: start
engines: {local: {kind: "null"}}
inputs: {rows: {path: rows.jsonl}}
nodes: {answer: {llm: {engine: local, prompt: "{{ row.id }}", max_tokens: 5}}}
outputs: {answer: "{{ answer.text }}"}
"""
UNUSED = {
    "aiohttp", "anyio", "httpx", "httpx2", "jsonschema", "mcp", "numpy", "openvino", "openvino_genai", "pandas",
    "pyarrow", "pygments", "referencing", "rich", "sqlalchemy", "sqlglot",
    "sundog.cli.calibrate", "sundog.cli.init", "sundog.engines.openai.engine", "sundog.engines.vllm.engine",
    "sundog.operators.http.operator", "sundog.operators.mcp.operator", "sundog.operators.python",
    "sundog.operators.sql.operator", "sundog.runtime.figures.agreements", "sundog.runtime.tables.failed_sources",
    "sundog.optimizer.placement.choose", "sundog.present.html", "sundog.servers.local_pages", "sundog.transport.client",
}  # fmt: skip
EXPLAIN, RUN = ["explain"], ["run", "--output", "out.jsonl", "-q"]
OF_RUNS = {"sundog.execution.calls.dispatch", "sundog.host.driver", "sundog.runtime.run", "sundog.sched.core"}
OF_ESTIMATES = {
    "sundog.cost.node_cost",
    "sundog.cost.plan_estimate",
    "sundog.explanation.explanation",
    "sundog.present.document",
}
COUNT = """
import sys
import duckdb
from sundog.cli.main import app

connect, opened = duckdb.connect, []
duckdb.connect = lambda *words, **options: opened.append(1) or connect(*words, **options)
sys.argv = ["sundog", *sys.argv[1:]]
try:
    app(prog_name="sundog")
except SystemExit as ended:
    assert not ended.code, ended.code
print("\\n".join(["", "== modules", str(len(opened)), *sys.modules]))
"""


def started(folder: Path, command: list[str]) -> tuple[int, set[str]]:
    """Return how many connections of DuckDB the command opens, and all modules that it imports."""
    (folder / "flow.yaml").write_text(FLOW)
    (folder / "rows.jsonl").write_text('{"id": 1}\n')
    words = [sys.executable, "-c", COUNT, command[0], "flow.yaml", *command[1:]]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    num_opened, *imported = done.stdout.partition("== modules\n")[2].split()
    return int(num_opened), set(imported)


@pytest.mark.parametrize(
    ("command", "unused", "max_modules"),
    [(EXPLAIN, OF_RUNS, 247), (RUN, OF_ESTIMATES, 313), (["run"], OF_ESTIMATES, 313)],
)
def test_a_command_imports_only_what_its_flow_uses(
    tmp_path: Path, command: list[str], unused: set[str], max_modules: int
) -> None:
    num_opened, imported = started(tmp_path, command)
    assert "sundog.engines.modelled.null" in imported
    assert sorted((UNUSED | unused) & imported) == []
    assert len([name for name in imported if name.startswith("sundog")]) <= max_modules
    assert num_opened == 1
