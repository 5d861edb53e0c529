"""A run as a job of a real head: submitted once, followed twice, and nothing printed tells its secrets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO

import pytest

from tests.cli.flows import sundog
from tests.ray.clusters import ray_cluster

pytestmark = [pytest.mark.ray, pytest.mark.slow]
pytest.importorskip("ray", reason="ray is not installed: pip install 'sundog[ray]'")
SECRET = "a value that nobody prints"
END_S = 300
FLOW = """
name: job
inputs:
  rows: {{path: rows.jsonl}}
nodes:
  wait:
    python: {{call: "steps:wait", args: {{id: "{{{{ row.id }}}}", token: "${{env:JOB_TOKEN}}", go: "{go}"}}}}
outputs: {{id: "{{{{ row.id }}}}", known: "{{{{ wait }}}}"}}
"""
STEPS = """
import time
from hashlib import sha256
from pathlib import Path

def wait(id, token, go):
    while not Path(go).exists():
        time.sleep(0.05)
    return sha256(token.encode()).hexdigest()
"""


@pytest.fixture(scope="module")
def job_server() -> Iterator[str]:
    with ray_cluster(0, takes_jobs=True) as cluster:
        yield f"http://{cluster.webui_url}"


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    folder = tmp_path / "flow"
    folder.mkdir()
    (folder / "flow.yaml").write_text(FLOW.format(go=tmp_path / "go"))
    (folder / "steps.py").write_text(STEPS)
    (folder / "rows.jsonl").write_text("".join(f'{{"id": {number}}}\n' for number in range(6)))
    return folder


def submit(flow: Path, address: str) -> subprocess.Popen[str]:
    shared = flow.parent
    words = ["run", "flow.yaml", "--on", "ray", "--address", address, "--cells", "1"]
    return subprocess.Popen(
        [sys.executable, "-m", "sundog", *words, "--state", f"file://{shared}/state", "--shared", str(shared)],
        cwd=flow,
        env={**os.environ, "JOB_TOKEN": SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(stream: IO[str], text: str) -> str:
    read = ""
    for line in stream:
        read += line
        if text in line:
            return read
    raise AssertionError(f"the log ended without {text!r}:\n{read}")


def test_a_job_outlives_the_command_that_submitted_it(job_server: str, flow: Path, tmp_path: Path) -> None:
    from ray.job_submission import JobSubmissionClient

    with submit(flow, job_server) as first:
        assert first.stdout is not None
        log = read_until(first.stdout, ": new, 6 rows")
        first.send_signal(signal.SIGINT)
        rest, _ = first.communicate(timeout=END_S)
    assert "is submitted to" in log
    assert first.returncode == 130, rest
    assert "goes on\n  follow it again: the same command\n  stop it: ray job stop" in rest
    with submit(flow, job_server) as second:
        assert second.stdout is not None
        read_until(second.stdout, "runs this command already")
        (tmp_path / "go").touch()
        log, _ = second.communicate(timeout=END_S)
    assert second.returncode == 0, log
    assert "6 done, 0 failed" in log
    [job] = [one for one in JobSubmissionClient(job_server).list_jobs() if one.submission_id]
    assert SECRET not in str(job) + log
    assert job.metadata is not None
    assert job.metadata["state"] == f"file://{tmp_path}/state"
    shown = sundog(tmp_path, "show", "last", "--state", f"file://{tmp_path}/state")
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    assert rows == [{"id": number, "known": sha256(SECRET.encode()).hexdigest()} for number in range(6)]


def test_a_job_that_is_stopped_goes_on_with_the_same_command(job_server: str, flow: Path, tmp_path: Path) -> None:
    from ray.job_submission import JobSubmissionClient

    with submit(flow, job_server) as first:
        assert first.stdout is not None
        log = read_until(first.stdout, ": new, 6 rows")
        job = log.split()[1]
        JobSubmissionClient(job_server).stop_job(job)
        rest, _ = first.communicate(timeout=END_S)
    assert f"job {job} was stopped; the same command continues the run" in rest
    (tmp_path / "go").touch()
    with submit(flow, job_server) as second:
        log, _ = second.communicate(timeout=END_S)
    assert second.returncode == 0, log
    assert ": continued, " in log
    assert "6 done, 0 failed" in log
