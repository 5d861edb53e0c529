"""What a command imports before it has anything to do: the libraries of formats, tools and engines that a flow does not
use take most of a second on a slow machine."""

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
    "aiohttp", "httpx", "jsonschema", "numpy", "openvino", "openvino_genai", "pandas", "pyarrow", "pygments",
    "referencing", "rich", "sqlalchemy", "sqlglot",
    "sundog.engines.openai", "sundog.engines.vllm", "sundog.operators.http", "sundog.operators.python",
    "sundog.operators.sql", "sundog.optimizer.placement.choose", "sundog.present.html",
}  # fmt: skip
COUNT = """
import sys
from sundog.cli.main import app
sys.argv = ["sundog", *sys.argv[1:]]
try:
    app(prog_name="sundog")
except SystemExit as ended:
    assert not ended.code, ended.code
print("\\n".join(["", "== modules", *sys.modules]))
"""


@pytest.mark.parametrize("command", [["explain"], ["run", "--output", "out.jsonl", "-q"], ["run"]])
def test_a_command_imports_only_what_its_flow_uses(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW)
    (tmp_path / "rows.jsonl").write_text('{"id": 1}\n')
    words = [sys.executable, "-c", COUNT, command[0], "flow.yaml", *command[1:]]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    imported = done.stdout.partition("== modules\n")[2].split()
    assert "sundog.engines.null" in imported
    assert not UNUSED.intersection(imported)
