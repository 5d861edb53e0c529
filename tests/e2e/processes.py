"""sundog in processes of its own, over a flow whose calls a CountingServer sees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.e2e.counting_server import CountingServer

FLOW = """
name: sent
engines:
  local: {{kind: "null"}}
inputs:
  rows: {{path: rows.jsonl}}
limits:
  "{origin}": {{max_concurrency: {num_at_once}}}
nodes:
  text:
    llm: {{engine: local, prompt: "Write about {{{{ row.topic }}}} for {{{{ row.id }}}}."}}
  send:
    http: {{method: {method}, url: "{origin}/{{{{ row.id }}}}"}}
  note:
    llm: {{engine: local, prompt: "{{{{ send.json.row }}}}: {{{{ text.text }}}}"}}
outputs: {{id: "{{{{ row.id }}}}", text: "{{{{ text.text }}}}", note: "{{{{ note.text }}}}"}}
"""
NUM_AT_ONCE = 8
WAIT_S = 120.0


def write_sending(folder: Path, origin: str, method: str, num_rows: int) -> None:
    """A flow with a GET or a POST for each row, between two LLM steps; NUM_AT_ONCE of them run at once."""
    (folder / "flow.yaml").write_text(FLOW.format(method=method, origin=origin, num_at_once=NUM_AT_ONCE))
    rows = ({"id": number, "topic": f"topic {number % 5}"} for number in range(num_rows))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """`sundog ...` in a process of its own session, so that a signal reaches it alone."""
    environment = {name: value for name, value in os.environ.items() if name != "SUNDOG_STATE"}
    return subprocess.Popen(
        [sys.executable, "-c", "from sundog.cli.main import entry; entry()", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a process that ends by itself."""
    stdout, stderr = process.communicate(timeout=WAIT_S)
    return process.returncode, stdout, stderr


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    return finish(start(folder, *arguments))


def kill_after(folder: Path, server: CountingServer, num_more: int, *arguments: str) -> None:
    """Kill `sundog ...` once it has had `num_more` answers and waits for the next at the server's shut gate."""
    num_before = len(server.asked)
    server.open_for_next(num_more)
    process = start(folder, *arguments)
    server.wait_for(num_before + num_more + 1)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """stderr up to the line that holds `text`."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} did not come: {seen}")
