"""A server is killed under load: nothing is lost, nothing is there twice."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from sundog.servers import servers
from sundog.servers.records import ServerRecords, processes_of
from tests.cli.flows import report_of, sundog, write_rows
from tests.engines import vllm_server
from tests.engines.fake_vllm import flow_text

NUM_ROWS = 60
REAL = """
name: served
engines:
  local:
    kind: vllm
    model: MODEL
    device: cpu
    replicas: REPLICAS
    max_concurrency: 16
    arguments: {load_format: dummy, dtype: float32, max_model_len: 512, block_size: 32, enforce_eager: true}
    environment: {OMP_NUM_THREADS: "1", VLLM_CPU_KVCACHE_SPACE: "1", HF_HUB_OFFLINE: "1"}
    python: PYTHON
inputs:
  rows: {path: rows.jsonl}
nodes:
  say:
    llm: {engine: local, prompt: "row {{ row.id }}", max_tokens: 96}
  again:
    llm: {engine: local, prompt: "row {{ row.id }} again", max_tokens: 96}
outputs: {id: "{{ row.id }}", said: "{{ say.text }}", again: "{{ again.text }}"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    write_rows(tmp_path, NUM_ROWS)
    yield tmp_path
    assert sundog(tmp_path, "engine", "down").exit_code == 0


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


def num_results(folder: Path) -> int:
    with closing(sqlite3.connect(folder / ".sundog" / "store.sqlite")) as connection:
        (found,) = connection.execute("select count(*) from results").fetchone()
    return int(found)


def test_two_servers_one_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake kills itself in the middle of what it was asked."""
    monkeypatch.setattr(servers, "POLL_S", 0.01)
    (folder / "flow.yaml").write_text(flow_text(folder, replicas=2, max_concurrency=8))
    assert sundog(folder, "engine", "up", "flow.yaml").exit_code == 0
    (folder / "dies").touch()
    ran = sundog(folder, "run", "flow.yaml", "--output", "out.jsonl", "--json")
    assert ran.exit_code == 0, ran.stderr
    assert not (folder / "dies").exists(), "one of them was killed"
    assert rows_of(folder) == [{"id": number, "said": f"ROW {number}"} for number in range(NUM_ROWS)]
    assert num_results(folder) == report_of(ran)["num_executed"] == NUM_ROWS
    asked = [json.loads(line)["messages"][-1]["content"] for line in (folder / "asked").read_text().splitlines()]
    assert set(asked) == {f"row {number}" for number in range(NUM_ROWS)}
    assert NUM_ROWS < len(asked) <= NUM_ROWS + 8, "once more what the killed one had not answered, no more"


@pytest.mark.vllm
@pytest.mark.parametrize(("num_servers", "what_follows"), [(2, b"ReplicaDown"), (1, b"ReplicaUp")])
def test_a_real_server_is_killed_by_sigkill(folder: Path, num_servers: int, what_follows: bytes) -> None:
    """Its calls go to the other one; where there is none, they wait until it is there again."""
    if reason := vllm_server.why_not():
        pytest.skip(reason)
    vllm_server.write_model(folder / "tiny")
    words = {"MODEL": folder / "tiny", "PYTHON": vllm_server.python_with_vllm(), "REPLICAS": num_servers}
    (folder / "flow.yaml").write_text(re.sub("|".join(words), lambda found: str(words[found[0]]), REAL))
    up = sundog(folder, "engine", "up", "flow.yaml")
    assert up.exit_code == 0, up.stderr
    record = ServerRecords(folder / ".sundog").all()[0]
    killed: list[int] = []

    def kill_under_load() -> None:
        while not killed:
            page = urlopen(record.base_url.removesuffix("/v1") + "/metrics").read().decode()
            lines = [line for line in page.splitlines() if line.startswith("vllm:num_requests_running")]
            if any(float(line.rpartition(" ")[2]) >= 8 for line in lines):
                for pid in processes_of(record):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    killer = threading.Thread(target=kill_under_load)
    killer.start()
    ran = sundog(folder, "run", "flow.yaml", "--output", "out.jsonl", "--json")
    killer.join()
    assert ran.exit_code == 0, ran.stderr
    assert [row["id"] for row in rows_of(folder)] == list(range(NUM_ROWS))
    assert all(row["said"] and row["again"] for row in rows_of(folder))
    assert num_results(folder) == report_of(ran)["num_executed"] == 2 * NUM_ROWS
    (log,) = (folder / ".sundog").glob("runs/*/events*")
    assert what_follows in gzip.decompress(log.read_bytes())
